"""The site with an alias for reading, as it came from several aliases."""

from .settings import *  # noqa: F403
from .settings import DATABASES

DATABASES["replica"] = DATABASES["default"] | {"TEST": {"MIRROR": "default"}}
DATABASE_ROUTERS = ["django_highwater.router.HighwaterRouter"]
