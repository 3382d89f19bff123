"""Read replicas for Django, through Highwater, without ever showing a user the past.

`INSTALLED_APPS` gets "django_highwater", `MIDDLEWARE` gets "django_highwater.middleware.HighwaterMiddleware" as its
first, and the database's HOST and PORT are Highwater's. On plain PostgreSQL everything here does nothing.
"""

from .levels import Level, consistency, primary
from .session import current_token, identify, use_token
from .transactions import read_only, wait_for_replicas

__all__ = [
    "Level",
    "consistency",
    "current_token",
    "identify",
    "primary",
    "read_only",
    "use_token",
    "wait_for_replicas",
]
