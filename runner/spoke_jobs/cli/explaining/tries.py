"""Join a job's attempts from the ledger and from its SpokeJob.

The ledger records an attempt once it is claimed, with the end that the job's own process recorded. The SpokeJob
records it once its Kubernetes Job is created, with pod, node and exit code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from spoke_jobs.contract.spokejob import AttemptStatus, SpokeJob
from spoke_jobs.model import Attempt, AttemptState, JobRequest


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt, recorded by the ledger, the SpokeJob, or both."""

    run: int
    number: int
    row: Attempt | None = None
    seen: AttemptStatus | None = None

    @property
    def worker(self) -> str:
        """The worker's host and process, or the pod; empty while there is none."""
        return self.row.worker if self.row else self.seen.pod if self.seen else ""

    @property
    def node(self) -> str:
        """The pod's node; empty if it is unknown."""
        return self.seen.node if self.seen else ""

    @property
    def begun_at(self) -> datetime | None:
        """When it was claimed, or else when its Kubernetes Job was created."""
        return self.row.claimed_at if self.row else self.seen.started_at if self.seen else None

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, as the ledger records it, or else the SpokeJob."""
        return (self.row.finished_at if self.row else None) or (self.seen.finished_at if self.seen else None)

    @property
    def cause(self) -> str:
        """Why it failed, as the ledger records it, or else the SpokeJob."""
        return (self.row.cause if self.row else "") or (self.seen.cause if self.seen else "")

    @property
    def error_type(self) -> str:
        """The exception's class."""
        return (self.row.error_type if self.row else "") or (self.seen.error_type if self.seen else "")

    @property
    def state(self) -> str:
        """The ledger's state; before the claim ``starting`` or ``failed``."""
        if self.row is not None:
            return self.row.state.value
        return "starting" if self.ended_at is None else AttemptState.FAILED.value


def tries(job: JobRequest, rows: Sequence[Attempt], spokejob: SpokeJob | None) -> tuple[Try, ...]:
    """Join all attempts, the oldest first. The SpokeJob has only the last ten attempts of the newest run."""
    by_row = {(row.run, row.number): row for row in rows}
    same_run = spokejob is not None and (spokejob.spec.uid, spokejob.spec.run) == (job.uid, job.run)
    seen = {(job.run, item.number): item for item in spokejob.status.attempts} if spokejob and same_run else {}
    return tuple(Try(*key, by_row.get(key), seen.get(key)) for key in sorted(by_row.keys() | seen.keys()))
