"""Addresses."""

from django.contrib import admin
from django.urls import path

from . import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("wish/", views.add_wish),
    path("wish/atomic/", views.add_wish_atomically),
    path("wish/async/", views.add_wish_async),
    path("wish/async/late/", views.add_wish_and_wait),
    path("wish/fails/", views.fails),
    path("wishes/", views.wishes),
    path("wishes/mine/", views.mine),
    path("wishes/async/", views.wishes_async),
    path("wishes/streamed/", views.streamed),
    path("wishes/streamed/async/", views.streamed_async),
    path("unread/", views.unread),
    path("login/", views.log_in),
    path("me/", views.me),
    path("touch/", views.touch_session),
    path("names/", views.names),
]
