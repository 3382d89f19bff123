"""What the article tells one to do, for comparison. The aliases have the names they have here."""

import random
from typing import Any


class PrimaryReplicaRouter:
    """Reads from a random replica, writes to the primary."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        """Any replica, whatever has been written before."""
        return random.choice(["replica1", "replica2"])

    def db_for_write(self, model: Any, **hints: Any) -> str:
        """The primary."""
        return "direct"

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        """All aliases are one pool."""
        return True

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
        """Everywhere."""
        return True
