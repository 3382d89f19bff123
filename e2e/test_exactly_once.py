"""A statement runs once: whatever a pipeline is cut into, nothing of it is taken for a statement of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

