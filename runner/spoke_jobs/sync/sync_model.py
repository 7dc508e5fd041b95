"""The views that the decisions use, and the actions that they return. Frozen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.custom_resources.spokejob import LedgerState, Outcome
from spoke_jobs.contract.names import ANNOTATION_SUSPENDED_BY, MANAGER_SYNC, is_object_name
from spoke_jobs.model import Failure, JobRequest, Progress
from spoke_jobs.shared.clean_text import error_type, is_cause_name
from spoke_jobs.shared.object_fields import Body, items, mapping, number, text

_Word = TypeVar("_Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Row:
    """A job in the ledger."""

    job: JobRequest
    """Without payload and result."""
    live: int | None
    """The number of the attempt that holds a claim."""

    @property
    def name(self) -> str:
        """The name of the job's SpokeJob."""
        return name_of(self.job)

    @property
    def begun(self) -> bool:
        """Whether the job's run may have had a SpokeJob. If so, there must not be a second one."""
        return self.job.submitted_at is not None or self.job.attempt > 0


@dataclass(frozen=True, slots=True)
class AttemptView:
    """An attempt as the operator reports it."""

    number: int
    ended: bool
    cause: str
    error_type: str
    message: str = ""
    """What Kubernetes said about the attempt's failure."""
    pod: str = ""


@dataclass(frozen=True, slots=True)
class SpokeJobView:
    """The part of a SpokeJob that the decisions use. A malformed field counts as absent."""

    name: str
    object_uid: str
    """Kubernetes' UID, which differs for another SpokeJob of the same name."""
    resource_version: str
    job_uid: UUID | None
    """The UUID of the SpokeJob's row; None if the spec has no valid one."""
    run: int
    outcome: Outcome | None = None
    cause: str = ""
    message: str = ""
    """What Kubernetes said about the SpokeJob's end."""
    attempt: int = 0
    attempts: tuple[AttemptView, ...] = ()
    progress: Progress | None = None
    ledger: LedgerState | None = None
    cancel: bool = False
    """Whether the operator has been asked to end the job."""
    priority: int = 0
    suspend: bool = False
    """Whether the operator starts no attempt."""
    suspended_by_sync: bool = False
    """Whether sync has set that."""

    def is_of(self, row: Row) -> bool:
        """Whether the SpokeJob belongs to this row. A SpokeJob of another row may have the same name."""
        return self.job_uid == row.job.uid and self.run == row.job.run

    @property
    def settled(self) -> bool:
        """Whether nothing can change any more: the SpokeJob and its row are final."""
        return self.ledger is not None and self.outcome is not None and self.outcome.final


@dataclass(frozen=True, slots=True)
class Launch:
    """Create the SpokeJob, because none is known."""

    row: Row


@dataclass(frozen=True, slots=True)
class RecordSubmitted:
    """Record in the row that the SpokeJob exists."""

    row: Row


@dataclass(frozen=True, slots=True)
class EndAttempt:
    """Record the end of an attempt that only the cluster knows of."""

    row: Row
    number: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class FailJob:
    """Fail the job for good."""

    row: Row
    failure: Failure


@dataclass(frozen=True, slots=True)
class ConfirmGone:
    """Ask the API server whether the SpokeJob is really gone, and fail the job if so."""

    row: Row


@dataclass(frozen=True, slots=True)
class Cancel:
    """Pass a cancellation on to the operator."""

    row: Row
    seen: SpokeJobView


@dataclass(frozen=True, slots=True)
class ChangeStart:
    """Pass on when the operator may start the next attempt, as somebody has changed it in the row."""

    row: Row
    seen: SpokeJobView
    priority: int | None = None
    """None to leave it as it is."""
    suspend: bool | None = None
    """Likewise."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Show the row's progress and final state on the SpokeJob."""

    seen: SpokeJobView
    progress: Progress | None
    ledger: LedgerState | None


LedgerAction = RecordSubmitted | EndAttempt | FailJob
"""The actions that need no API server."""
SpokeJobWrite = Launch | Cancel | ChangeStart | Mirror
"""The actions that write a SpokeJob."""
Action = LedgerAction | SpokeJobWrite | ConfirmGone


def read_view(body: Body) -> SpokeJobView:
    """Make a view from a SpokeJob's JSON."""
    metadata, spec, status = mapping(body, "metadata"), mapping(body, "spec"), mapping(body, "status")
    return SpokeJobView(
        name=text(metadata, "name"),
        object_uid=text(metadata, "uid"),
        resource_version=text(metadata, "resourceVersion"),
        job_uid=_uuid(text(spec, "uid")),
        run=number(spec, "run") or 1,
        outcome=_member(Outcome, text(status, "outcome")),
        cause=cause(status),
        message=text(status, "message"),
        attempt=number(status, "attempt"),
        attempts=tuple(
            AttemptView(
                number=number(item, "number"),
                ended=bool(text(item, "finishedAt")),
                cause=cause(item),
                error_type=error_type(text(item, "errorType")),
                message=text(item, "message"),
                pod=object_name(item, "pod"),
            )
            for item in items(status, "attempts")
        ),
        progress=_progress(status),
        ledger=_member(LedgerState, text(status, "ledger")),
        cancel=spec.get("cancel") is True,
        priority=number(spec, "priority"),
        suspend=spec.get("suspend") is True,
        suspended_by_sync=text(mapping(metadata, "annotations"), ANNOTATION_SUSPENDED_BY) == MANAGER_SYNC,
    )


def _progress(status: Body) -> Progress | None:
    value = mapping(status, "progress")
    return Progress(number(value, "percent"), text(value, "message")) if value else None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _member(kind: type[_Word], text: str) -> _Word | None:
    try:
        return kind(text)
    except ValueError:
        return None


def cause(body: Body, name: str = "cause") -> str:
    """Return the cause in a field: empty if there is none, `Undiagnosable` if it does not have the form of a cause."""
    found = text(body, name)
    return found if not found or is_cause_name(found) else Cause.UNDIAGNOSABLE


def object_name(body: Body, name: str) -> str:
    """Return the name of a Kubernetes object in a field; empty if no object can have that name."""
    found = text(body, name)
    return found if is_object_name(found) else ""
