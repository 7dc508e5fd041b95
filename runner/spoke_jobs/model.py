"""Plain, frozen values: a dispatch, and the ledger's rows. Nothing here uses a database."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from spoke_jobs.contract.executors import Executor, executor_of
from spoke_jobs.contract.progress_token import LONGEST_VALID_SECONDS, ProgressToken
from spoke_jobs.job_options import RETENTION_SECONDS as RETENTION_SECONDS
from spoke_jobs.job_options import JobData as JobData
from spoke_jobs.job_options import JobOptions as JobOptions
from spoke_jobs.settings import load_settings, usable_progress_keys
from spoke_jobs.shared.secret_file import Secret
from spoke_jobs.type_names import SUFFIX, matches, overlaps


class JobState(StrEnum):
    """The state of a job; the last two are final."""

    BLOCKED = "blocked"
    """It depends on jobs that have not ended. It cannot be claimed."""
    WAITING = "waiting"
    """Before the first attempt, or between two attempts."""
    RUNNING = "running"
    """An attempt holds a claim."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self in (JobState.SUCCEEDED, JobState.FAILED)


UNFINISHED = (JobState.WAITING, JobState.RUNNING, JobState.BLOCKED)
"""The states of jobs that have not ended."""


class AttemptState(StrEnum):
    """The state of one attempt."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


SUSPECT_LOSSES = 3
"""A task is a suspect once this many replicas have died while they had it. Each dispatcher sends one suspect at a time,
and each replica claims one at a time, so that the next death shows whether the suspect is the reason."""
TASK_LOSSES = 10
"""A task has failed for good once this many replicas have died while they had it."""


class UnreadPayload(str):
    """Stands for a payload that was not read with its row. The text is empty."""

    size: int = 0
    """How many bytes the payload takes."""

    @classmethod
    def of(cls, size: int) -> Self:
        """Return the text that stands for a payload of this size."""
        made = cls()
        made.size = size
        return made


def payload_size(payload: str) -> int:
    """Return how many bytes a payload takes, also if it was not read."""
    return payload.size if isinstance(payload, UnreadPayload) else len(payload.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchedRow:
    """What a dispatch gives to a job's row: the columns that :class:`NewJob` and :class:`JobRequest` share."""

    job_type: str
    payload: str
    """JSON text; an :class:`UnreadPayload` if it was not read with the row, because it is not small."""
    queue_name: str
    locks_queue: bool = False
    organization_id: int | None
    campaign_id: int | None
    runner: str
    assigned: bool = False
    """Whether a process has the job: the dispatching one, or the one that claimed it."""
    options: JobOptions
    priority: int = 0
    unique_key: str | None = None
    limit_key: str | None = None
    run_after: datetime | None = None
    open_dependencies: int = 0
    """How many jobs, and batches, a blocked job still waits for."""
    schedule: str | None = None
    """The schedule that dispatched the job."""
    scheduled_for: datetime | None = None
    """When the job was due by its schedule. A schedule has at most one job for each time."""
    batch_id: int | None = None
    """The batch that the job is in."""
    batch_open: bool = False
    """Whether its end still has to be counted in its batch."""
    awaited: bool = False
    """Whether other jobs or a batch depend on its end."""

    @property
    def executor(self) -> Executor:
        """Who starts its attempts."""
        return executor_of(self.runner)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob(DispatchedRow):
    """A validated dispatch, ready to be written.

    :raises ValueError: if ``run_after`` has no time zone.
    """

    after: tuple[int | UUID, ...] = ()
    """The jobs that it depends on, by id or uid. The ledger counts those that have not ended."""
    after_failed: str = "fail"
    """Whether it also runs after the failure of a job that it depends on: ``fail`` or ``run``."""
    unique_for: float | None = None
    """How many seconds ago a job with the unique key may have been dispatched that has succeeded."""
    on_conflict: str = "keep"
    """Whether a job that has the unique key and has not begun gets the payload and the due time of this one."""
    uid: UUID | None = None
    """The uid of the row; None for a random one."""
    id: int | None = None
    """The id of the row; None for the next one."""

    def __post_init__(self) -> None:
        if self.run_after is not None and self.run_after.utcoffset() is None:
            raise ValueError(f"run_after is {self.run_after.isoformat()}, without a time zone")


UNDECLARED = JobOptions()
"""The options of a row that other code inserted without any, compared by identity; see
:mod:`spoke_jobs.execution.declared_options`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest(DispatchedRow):
    """A row of ``job_request`` at the time it was read.

    The table's columns follow from these fields (:mod:`spoke_jobs.ledger.tables`). The annotation gives the type and
    whether the column may be NULL. The default gives the server's default. A new column needs a field and a migration.
    """

    id: int
    uid: UUID
    """Distinguishes this row from one with the same id in another database."""
    status: int = 0
    """Percent done; -1 after a failure; 100 after success, or if the job reports it."""
    result_message: str = ""
    """The job's last progress message, or why it failed."""
    created_at: datetime
    updated_at: datetime
    state: JobState
    run: int = 1
    """The number of the run, from 1. A retry by hand starts the next run."""
    attempt: int = 0
    """The number of the newest attempt; 0 before the first."""
    start_by: datetime | None = None
    """The latest time of the job's first start."""
    cancel_requested_at: datetime | None = None
    """When somebody asked to cancel the running job."""
    suspended_at: datetime | None = None
    """When somebody suspended the job. Until it is resumed, no attempt starts."""
    submitted_at: datetime | None = None
    """When the SpokeJob was first known to exist (``kubernetes``)."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    """When the row of a finished job may be pruned."""
    cause: str = ""
    """Why the job or its last attempt failed: a name of :data:`spoke_jobs.contract.causes.CAUSES`; else empty."""
    fingerprint: str = ""
    """Type and place of the exception that did it (:func:`spoke_jobs.execution.attempt_decisions.fingerprint`)."""
    result: Any = None
    """What the job returned, or gave to ``ctx.complete``."""

    @property
    def due_at(self) -> datetime:
        """Since when a waiting job has been due, or when it will be."""
        return self.created_at if self.run_after is None else max(self.created_at, self.run_after)

    def due_later(self, now: datetime) -> datetime | None:
        """Return the time for which a waiting job waits; None if it does not wait for a time."""
        return self.run_after if self.run_after is not None and self.run_after > now else None

    def progress_token(self, *, valid_for: float = 3600, key: Secret = "") -> str:
        """Return a token with which somebody may follow the job's progress, and nothing else, until it expires.

        Give it to a user who may know how far the job is: docs/how-to/progress.md.

        :param valid_for: for how many seconds, at most 30 days.
        :param key: the key that signs it; by default that of ``SPOKE_PROGRESS_KEY``.
        :raises ConfigurationError: if there is no key, or if it is short.
        """
        given: object = valid_for
        is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
        if not is_number or not 0 < valid_for <= LONGEST_VALID_SECONDS:
            raise ValueError(
                f"valid_for is a number of seconds above 0, at most {LONGEST_VALID_SECONDS:,} (30 days), not {given!r}"
            )
        signing, *_ = usable_progress_keys(key or load_settings().progress_keys)
        return ProgressToken(self.id, self.run, math.ceil(time.time() + valid_for)).signed(signing)

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to select. None: any."""

    states: tuple[JobState, ...] | None = None
    job_type: str | None = None
    """A name, or a pattern in which ``*`` stands for any characters: ``ingest.*``, ``sync_*``."""
    queue_name: str | None = None
    """A name or a pattern."""
    organization_id: int | None = None
    campaign_id: int | None = None
    cause: str | None = None
    other_cause_than: str | None = None
    fingerprint: str | None = None
    since: datetime | None = None
    """The earliest time of the dispatch."""
    until: datetime | None = None
    """The time before which the job was dispatched."""
    runner: str | None = None
    lane: str | None = None
    """The lane of the next attempt, or of the last one: see :func:`~spoke_jobs.contract.executors.lane_in`."""
    organizations: frozenset[int] | None = None
    """The organizations that somebody may see. With any, jobs of no organization do not pass."""
    unique_key: str | None = None
    batch_id: int | None = None
    schedule: str | None = None
    """The name of the schedule that dispatched them."""
    last_id: int | None = None
    """The highest id: only jobs that were dispatched until then."""
    first_id: int | None = None
    """The lowest id."""

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


ANY_JOB = JobFilter()


@dataclass(frozen=True, slots=True)
class ClaimFilter:
    """Which jobs a worker takes. Patterns, in which ``*`` stands for any characters; none: any."""

    types: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    not_types: tuple[str, ...] = ()
    not_queues: tuple[str, ...] = ()
    queue_locks: bool = True
    """Whether the worker takes jobs that lock their queue."""

    def takes_type(self, name: str) -> bool:
        """Whether the worker may take jobs of the type."""
        return _passes(name, self.types, self.not_types)

    def takes_some(self, name: str) -> bool:
        """Whether the worker may take jobs of the type or, if the name is a prefix, of some types that match it."""
        if not name.endswith(SUFFIX):
            return self.takes_type(name)
        wanted = not self.types or any(overlaps(name, pattern) for pattern in self.types)
        return wanted and not any(matches(name, pattern) for pattern in self.not_types)


def _passes(name: str, wanted: tuple[str, ...], unwanted: tuple[str, ...]) -> bool:
    if wanted and not any(matches(name, pattern) for pattern in wanted):
        return False
    return not any(matches(name, pattern) for pattern in unwanted)


ANY_CLAIM = ClaimFilter()


@dataclass(frozen=True, slots=True)
class AttemptUsage:
    """What an attempt used until its end. None: it could not be measured, or others used the same process."""

    peak_memory_bytes: int | None = None
    """Of its process or its largest child process; in a pod, of the container without the page cache."""
    cpu_milliseconds: int | None = None
    """Of its process and of the child processes that ended; in a pod, of the container."""
    wall_milliseconds: int | None = None
    """From its start; in a pod, from the start of its process."""


UNMEASURED = AttemptUsage()
USAGE_FIELDS = tuple(field.name for field in fields(AttemptUsage))
"""The fields of :class:`AttemptUsage`, which :class:`Attempt` has as well."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of ``job_attempt``. The table's columns follow from these fields, as with :class:`JobRequest`, and so does
    the JSON of ``show``. A field that :class:`Failure` has as well is recorded with each failed attempt."""

    job_id: int
    run: int
    number: int
    state: AttemptState
    worker: str
    """The worker's host and process, or the pod."""
    claimed_at: datetime
    heartbeat_at: datetime
    lease_expires_at: datetime
    finished_at: datetime | None = None
    cause: str = ""
    error_type: str = ""
    """The exception's class or, if a worker's process was killed, the signal."""
    output_tail: str = ""
    """The last lines of the traceback, if there is one. They may contain values."""
    runner: str = ""
    """The runner of the job's row when the attempt was claimed; empty if an earlier release claimed it."""
    peak_memory_bytes: int | None = None
    """Its peak memory. Without a value, it could not be measured."""
    cpu_milliseconds: int | None = None
    """The CPU time of its process and of the child processes that ended."""
    wall_milliseconds: int | None = None
    """The wall time in which it used that."""
    due_at: datetime | None = None
    """When it had become due; for a later attempt in a pod, when the one before it failed: the ledger does not know the
    operator's backoff. Without a value, an earlier release claimed it."""

    @property
    def executor(self) -> Executor | None:
        """Who started it; None if that is not recorded."""
        return executor_of(self.runner) if self.runner else None


CHECKPOINT = ""
"""The name of a job's checkpoint. The other names in ``job_checkpoint`` are those of its steps."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A row of ``job_checkpoint``: a job's checkpoint, or the result of one of its steps."""

    name: str
    """:data:`CHECKPOINT`, or the step's name."""
    value: str
    """JSON text."""
    run: int
    """The run of the attempt that saved it last."""
    number: int
    """The number of that attempt."""
    saved_at: datetime


@dataclass(frozen=True, slots=True)
class ContainerOutput:
    """The last lines that one container of a failed attempt's pod printed."""

    container: str
    text: str


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """What the cluster said about a failed attempt, also about one that never claimed its job (``kubernetes``)."""

    run: int
    number: int
    cause: str
    message: str = ""
    """What Kubernetes said."""
    pod: str = ""
    outputs: tuple[ContainerOutput, ...] = ()
    """They may hold values."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt of a job, until its lease lapses."""

    job: JobRequest
    number: int
    token: UUID
    """A random value, which every write of the attempt must show."""
    lease_seconds: float
    asked_at: float | None = None
    """When the claim was requested, on this machine's monotonic clock; None if unknown, or if on another machine."""
    due_at: datetime | None = None
    """When the job had become due, by the ledger's clock; None if that is no longer known."""
    start_by: float = math.inf
    """Until when a worker may start the attempt, because of the tokens of rates that the claim took, on this machine's
    monotonic clock."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed."""

    cause: str
    message: str = ""
    """For the ledger only: it may hold payload values."""
    error_type: str = ""
    """The exception's class or, if a worker's process was killed, the signal."""
    output_tail: str = ""
    for_good: bool = False
    fingerprint: str = ""
    retry_after_seconds: float | None = None
    """After how many seconds the job asked to be run again; None: the retry policy decides."""
    usage: AttemptUsage = UNMEASURED


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress that a job reports."""

    percent: int
    message: str


class Pulse(StrEnum):
    """The ledger's answer to a heartbeat."""

    HELD = "held"
    """The claim holds, and the progress is written."""
    UNWRITTEN = "unwritten"
    """The claim holds. The progress is not written, because another transaction has locked the job's row."""
    CANCELLED = "cancelled"
    """The claim holds, and the job is to be cancelled."""
    GONE = "gone"
    """The token is no longer valid."""


class FailedJob(BaseModel):
    """The payload of a job that the final failure of another job dispatched (``on_failure``)."""

    model_config = ConfigDict(frozen=True)

    id: int
    uid: UUID
    job_type: str
    cause: str
    message: str
    """For the application only: it may hold payload values."""
    organization_id: int | None = None
    campaign_id: int | None = None


def declared(options: JobOptions, *, queue_name: str, locks_queue: bool, priority: int) -> dict[str, Any]:
    """Return a declaration as plain JSON, without its own ``on_failure``, so that no chain of failures is endless."""
    return {
        "options": replace(options, on_failure="", on_failure_as=None).to_json(),
        "queue": queue_name,
        "locksQueue": locks_queue,
        "priority": priority,
    }
