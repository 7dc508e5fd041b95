"""How a worker runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """See the fields."""

    runner: str
    types: tuple[str, ...]
    """The ``def`` jobs that it claims; what is in neither list is left for workers that know it."""
    processes: int
    """How many of those it runs at once, each in a process of its own."""
    lease_seconds: float
    poll_seconds: float
    loop_types: tuple[str, ...] = ()
    """The ``async def`` jobs that it claims."""
    concurrency: int = 50
    """How many of those it runs at once, together on an event loop."""
    batch: int = 16
    """How many jobs one claim takes at most."""
    grace_seconds: float = 30.0
    """How long running jobs may take after SIGTERM."""
    drain: bool = False
    """End when nothing is due and nothing runs."""

    @property
    def all_types(self) -> tuple[str, ...]:
        """Every job that it claims."""
        return self.types + self.loop_types
