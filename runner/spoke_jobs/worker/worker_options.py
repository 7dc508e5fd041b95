"""Options of a worker."""

from __future__ import annotations

from dataclasses import dataclass

from spoke_jobs.model import ANY_CLAIM, ClaimFilter


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options of a worker process."""

    runner: str
    types: tuple[str, ...]
    """The ``def`` job types that the worker claims. It leaves unknown types to other workers."""
    processes: int
    """How many ``def`` jobs run at once, each in its own child process."""
    lease_seconds: float
    poll_seconds: float
    loop_types: tuple[str, ...] = ()
    """The ``async def`` job types that the worker claims."""
    concurrency: int = 50
    """How many ``async def`` jobs run at once, on one event loop."""
    batch: int = 16
    """The most jobs that one claim takes."""
    grace_seconds: float = 30.0
    """How long running jobs may take to stop after SIGTERM."""
    prune_seconds: float = 60.0
    """How often the rows whose retention is over are deleted."""
    only: ClaimFilter = ANY_CLAIM
    """Which jobs of these types the worker takes."""
    declared_types: tuple[str, ...] = ()
    """All declared types, if the worker takes only some of them."""
    keep_output: bool = True
    """Whether the ledger keeps the last lines that killed and interrupted jobs printed."""
    job_memory_bytes: int | None = None
    """How much memory each child process may have; None: any."""
    drain: bool = False
    """Exit when no job is due and none is running."""

    @property
    def all_types(self) -> tuple[str, ...]:
        """All job types that the application declares."""
        return self.declared_types or self.types + self.loop_types
