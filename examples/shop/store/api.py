"""For programs: the wishlist by Django REST framework."""

from typing import Any

from rest_framework import serializers, viewsets

from .models import Wish


class WishSerializer(serializers.ModelSerializer):
    """A wish, with the name of its product."""

    name = serializers.CharField(source="product.name", read_only=True)

    class Meta:
        """What is shown."""

        model = Wish
        fields = ["id", "product", "name"]


class WishViewSet(viewsets.ModelViewSet):
    """One's wishes."""

    serializer_class = WishSerializer

    def get_queryset(self) -> Any:
        """Nobody else's."""
        return Wish.objects.filter(owner=self.request.user).order_by("id").select_related("product")

    def perform_create(self, serializer: Any) -> None:
        """They are whose request it is."""
        serializer.save(owner=self.request.user)
