"""Addresses with the debug toolbar's."""

from debug_toolbar.toolbar import debug_toolbar_urls
from django.urls import path

from . import views
from .urls import urlpatterns as own

urlpatterns = [*own, path("page/", views.page), *debug_toolbar_urls()]
