"""Addresses of the shop."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from . import api, views

router = SimpleRouter()
router.register("wishes", api.WishViewSet, basename="api-wish")

urlpatterns = [
    path("", views.home, name="home"),
    path("wishlist/", views.wishlist, name="wishlist"),
    path("wishlist/add/<int:product_id>/", views.wish, name="wish"),
    path("wishlist/forget/<int:wish_id>/", views.forget, name="forget"),
    path("messages/", views.mail, name="mail"),
    path("messages/<int:message_id>/read/", views.read, name="read"),
    path("unread/", views.unread, name="unread"),
    path("switch/", views.switch, name="switch"),
    path("lag/", views.lag, name="lag"),
    path("api/", include(router.urls)),
]
