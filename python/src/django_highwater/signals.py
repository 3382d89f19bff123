"""Signals of the package."""

from django.dispatch import Signal

writes_lost = Signal()
"""The cluster has failed over, and what this session wrote or saw may be lost: told once, before anything else is read.

Receivers get `alias`, `message` and `detail`. The logger "django_highwater" has an error for each.
"""
