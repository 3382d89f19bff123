"""Wishes, and messages that one reads."""

from django.conf import settings
from django.db import models

from django_highwater.querysets import ConsistencyManager


class Wish(models.Model):
    """Something that somebody wants."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True)
    thing = models.CharField(max_length=100)


class OwnWish(Wish):
    """A wish as its owner sees it: fresh."""

    objects = ConsistencyManager.at("strong")

    class Meta:
        """The same table."""

        proxy = True


class Note(models.Model):
    """Something that may be late."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)

    objects = ConsistencyManager.at("eventual")


class Message(models.Model):
    """Something that somebody has been told."""

    text = models.CharField(max_length=100)
    is_read = models.BooleanField(default=False)


class Balance(models.Model):
    """What nobody wants to see late."""

    highwater_consistency = "primary"

    wish = models.ForeignKey(Wish, on_delete=models.CASCADE)
    cents = models.IntegerField(default=0)
