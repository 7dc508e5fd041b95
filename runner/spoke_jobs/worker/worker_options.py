"""Options of a worker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options of a worker process."""

    runner: str
    types: tuple[str, ...]
    """The ``def`` job types that it claims. It leaves unknown types to other workers."""
    processes: int
    """How many ``def`` jobs it runs at once, each in its own child process."""
    lease_seconds: float
    poll_seconds: float
    loop_types: tuple[str, ...] = ()
    """The ``async def`` job types that it claims."""
    concurrency: int = 50
    """How many ``async def`` jobs it runs at once, on one event loop."""
    batch: int = 16
    """The most jobs that one claim takes."""
    grace_seconds: float = 30.0
    """How long running jobs may take to stop after SIGTERM."""
    drain: bool = False
    """Exit when no job is due and none is running."""

    @property
    def all_types(self) -> tuple[str, ...]:
        """All job types that it claims."""
        return self.types + self.loop_types
