"""Whose turn it is to write, where the operator runs more than once."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Leadership(Protocol):
    """Grants the lead. Everything that writes starts after it, and ends with it."""

    async def gained(self) -> None:
        """Return once this process leads."""

    async def lost(self) -> None:
        """Return once it no longer does."""


class Alone:
    """One replica, replaced rather than joined by the next (Deployment strategy Recreate): it always leads."""

    async def gained(self) -> None:
        """At once."""

    async def lost(self) -> None:
        """Never."""
        await asyncio.get_running_loop().create_future()
