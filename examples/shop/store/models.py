"""What the shop knows."""

from django.conf import settings
from django.db import models


class Product(models.Model):
    """Something one can wish for."""

    name = models.CharField(max_length=100)
    cents = models.PositiveIntegerField()

    def __str__(self) -> str:
        return self.name


class Wish(models.Model):
    """A product on somebody's list."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="wishes")
    product = models.ForeignKey(Product, on_delete=models.CASCADE)

    class Meta:
        """A list holds a product once."""

        constraints = [models.UniqueConstraint(fields=["owner", "product"], name="one_wish_for_each_product")]
        verbose_name_plural = "wishes"

    def __str__(self) -> str:
        return f"{self.product_id} for {self.owner_id}"


class Message(models.Model):
    """Something somebody is told."""

    to = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="mail")
    text = models.CharField(max_length=200)
    is_read = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.text
