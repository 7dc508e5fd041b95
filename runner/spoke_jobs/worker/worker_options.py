"""Options of a worker."""

from __future__ import annotations

from dataclasses import dataclass

from spoke_jobs.contract.executors import Lane, lane_of
from spoke_jobs.model import ANY_CLAIM, ClaimFilter, JobOptions


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
    worker_seconds: float | None = None
    """How long an attempt may run in the lane `worker`, unless its job says so; None: as long as it likes."""
    drain: bool = False
    """Exit when no job is due and none is running."""

    def seconds_of(self, options: JobOptions) -> float | None:
        """How long an attempt may run in this worker before its job moves to a pod; None: as long as it likes."""
        if lane_of(self.runner) is not Lane.WORKER:
            return None  # there is no other place for it
        return self.worker_seconds if options.worker_seconds is None else options.worker_seconds

    @property
    def all_types(self) -> tuple[str, ...]:
        """All job types that the application declares."""
        return self.declared_types or self.types + self.loop_types
