"""Join a job's attempts from the ledger and from its SpokeJob.

The ledger records an attempt once it is claimed, with the end that the job's own process recorded. The SpokeJob
records an attempt once its Kubernetes Job is created, with pod, node and exit code. Sync stores a report of a failed
attempt: what Kubernetes said, and the last lines of each container.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from spoke_jobs.contract.custom_resources.spokejob import AttemptStatus, SpokeJob
from spoke_jobs.contract.executors import Executor
from spoke_jobs.model import Attempt, AttemptReport, AttemptState, ContainerOutput, JobRequest

STARTING = "starting"
"""The state of an attempt whose Kubernetes Job exists and that has not been claimed."""


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt, recorded by the ledger, the SpokeJob, or both."""

    run: int
    number: int
    row: Attempt | None = None
    seen: AttemptStatus | None = None
    report: AttemptReport | None = None

    def executor(self, job: JobRequest) -> Executor:
        """Who started it. If the ledger does not record that, it is who starts the attempts of the job now."""
        recorded = self.row.executor if self.row else None
        return recorded or job.executor

    @property
    def worker(self) -> str:
        """The worker's host and process, or the pod; empty while there is none."""
        known = self.seen.pod if self.seen else self.report.pod if self.report else ""
        return self.row.worker if self.row else known

    @property
    def node(self) -> str:
        """The pod's node; empty if it is unknown."""
        return self.seen.node if self.seen else ""

    @property
    def begun_at(self) -> datetime | None:
        """When the attempt was claimed. If it was not, when its Kubernetes Job was created."""
        return self.row.claimed_at if self.row else self.seen.started_at if self.seen else None

    @property
    def ended_at(self) -> datetime | None:
        """When the attempt ended, from the ledger, or else from the SpokeJob."""
        return (self.row.finished_at if self.row else None) or (self.seen.finished_at if self.seen else None)

    @property
    def cause(self) -> str:
        """Why the attempt failed, from the ledger, or else from the SpokeJob."""
        known = (self.seen.cause if self.seen else "") or (self.report.cause if self.report else "")
        return (self.row.cause if self.row else "") or known

    @property
    def error_type(self) -> str:
        """The exception's class."""
        return (self.row.error_type if self.row else "") or (self.seen.error_type if self.seen else "")

    @property
    def state(self) -> str:
        """The state in the ledger. An attempt that is not in the ledger is :data:`STARTING` or ``failed``."""
        if self.row is not None:
            return self.row.state.value
        return STARTING if self.ended_at is None and self.report is None else AttemptState.FAILED.value

    @property
    def message(self) -> str:
        """What Kubernetes said about the failure; empty if it said nothing."""
        known = self.report.message if self.report else ""
        return (self.seen.message if self.seen else "") or known

    @property
    def outputs(self) -> tuple[ContainerOutput, ...]:
        """The last lines of each container, as the ledger keeps them."""
        return self.report.outputs if self.report else ()


def tries(
    job: JobRequest, rows: Sequence[Attempt], spokejob: SpokeJob | None, reports: Sequence[AttemptReport] = ()
) -> tuple[Try, ...]:
    """Join all attempts, the oldest first. The SpokeJob has only the last ten attempts of the newest run."""
    by_row = {(row.run, row.number): row for row in rows}
    by_report = {(report.run, report.number): report for report in reports}
    same_run = spokejob is not None and (spokejob.spec.uid, spokejob.spec.run) == (job.uid, job.run)
    seen = {(job.run, item.number): item for item in spokejob.status.attempts} if spokejob and same_run else {}
    keys = sorted(by_row.keys() | seen.keys() | by_report.keys())
    return tuple(Try(*key, by_row.get(key), seen.get(key), by_report.get(key)) for key in keys)
