"""The JSON of `stats`, `outbox`, `limits`, `batches` and `events`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Self
from uuid import UUID

from spoke_jobs.explain.shape import AnyJson, Shape
from spoke_jobs.ledger.audit.audit_events import Event
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.outbox.outbox_queries import ReplicaClaims
from spoke_jobs.ledger.outbox_row import TaskRow, TaskState
from spoke_jobs.ledger.reading.queries import LimitState
from spoke_jobs.ledger.reading.statistics import Statistics
from spoke_jobs.limits.job_limit import Source
from spoke_jobs.model import UnreadPayload
from spoke_jobs.payloads import payload_as_json


class DurationPercentiles(Shape):
    """Percentiles of durations, in seconds."""

    p50: float
    p95: float


class StatsGroup(Shape):
    """The jobs that have one type, queue, organization or cause."""

    name: str
    """Empty for jobs without one, and for the total."""
    waiting: int
    oldest_due_at: datetime | None
    """Since when the oldest waiting job has been due; null if no job is due."""
    running: int
    succeeded: int
    """Jobs that succeeded in the period."""
    failed: int
    """Jobs that failed in the period."""
    wait: DurationPercentiles | None
    """From the time when a job was due to its first start in its newest run, for jobs that ended in the period."""
    took: DurationPercentiles | None
    """From that start to the end, for the same jobs."""
    blocked: int
    """Jobs that wait for the ends of others."""
    oldest_blocked_at: datetime | None
    """When the oldest blocked job was dispatched; null if no job is blocked."""


class Stats(Shape):
    """The output of `stats`."""

    now: datetime
    period_seconds: float
    groups: tuple[StatsGroup, ...]
    """The largest first."""
    total: StatsGroup

    @classmethod
    def of(cls, found: Statistics) -> Self:
        """Convert statistics of the ledger."""
        return cls.model_validate(found)


class OutboxTask(Shape):
    """A task of the outbox."""

    id: int
    uid: UUID
    """The id in the task deployment's log."""
    name: str
    state: TaskState
    runner: str
    attempt: int
    """The number of the current or next attempt; of a failed task, of its last one."""
    losses: int
    """The number of the task's claims that have lapsed, because their replicas died."""
    worker: str
    """The replica that claimed it last; empty before that."""
    created_at: datetime
    due_at: datetime
    """When it may be claimed; for a claimed task, the end of its lease."""
    finished_at: datetime | None
    expires_at: datetime | None
    """When the row of a failed task is deleted."""
    cause: str
    """Why the last attempt failed, or `UnknownTask` if it was set aside; empty if neither."""
    error_type: str
    payload: AnyJson = None
    """With `--payload`; null otherwise, and if it is over 100 kB."""

    @classmethod
    def of(cls, task: TaskRow, *, with_payload: bool = False) -> Self:
        """Convert a row of the outbox."""
        values = {name: getattr(task, name) for name in cls.model_fields if name != "payload"}
        shows = with_payload and not isinstance(task.payload, UnreadPayload)
        return cls(payload=payload_as_json(task.payload) if shows else None, **values)


class OutboxTasks(Shape):
    """The output of `outbox ls`."""

    counts: dict[str, int]
    """All tasks of the outbox, by state, whatever the filters."""
    tasks: tuple[OutboxTask, ...]

    @classmethod
    def of(cls, counts: Mapping[TaskState, int], tasks: Sequence[TaskRow]) -> Self:
        """Convert rows of the outbox."""
        return cls(
            counts={state.value: count for state, count in counts.items()}, tasks=tuple(map(OutboxTask.of, tasks))
        )


class OutboxReplica(Shape):
    """A replica of the task deployment that has claimed tasks of the outbox."""

    replica: str
    claimed: int
    """Tasks that it has claimed and not ended."""
    lapsed: int
    """Tasks whose lease has lapsed, because the replica died or lost the database. Another replica claims them."""
    lease_ends_at: datetime
    """The latest end of a lease."""


class OutboxReplicas(Shape):
    """The output of `outbox replicas`."""

    replicas: tuple[OutboxReplica, ...]

    @classmethod
    def of(cls, replicas: Sequence[ReplicaClaims]) -> Self:
        """Convert the claims of the outbox."""
        return cls(replicas=tuple(OutboxReplica(**one._asdict()) for one in replicas))


class LimitRate(Shape):
    """How many attempts may start: a token bucket."""

    count: int
    """How many in each period, on average."""
    seconds: int
    """The period."""
    burst: int
    """How many at once after a quiet time."""


class LimitBounds(Shape):
    """What a limit allows; null: without bound."""

    max_running: int | None
    rate: LimitRate | None


class PausedScope(Shape):
    """A pause. One that has ended stays until the scope is resumed or paused again."""

    reason: str
    by: str
    since: datetime
    until: datetime | None


class Limit(Shape):
    """The limit, the rate and the pause of a scope."""

    scope: str
    running: int
    """How many jobs of the scope run."""
    max_running: int | None
    rate: LimitRate | None
    source: Source
    """`default`: from the application's code; `runtime`: somebody set it."""
    default: LimitBounds | None
    """What the application's code declares."""
    pause: PausedScope | None

    @classmethod
    def of(cls, state: LimitState) -> Self:
        """Convert a row of the ledger."""
        limit = state.limit
        return cls.model_validate(
            {
                "scope": str(limit.scope),
                "running": state.running,
                "max_running": limit.bounds.max_running,
                "rate": limit.bounds.rate,
                "source": limit.source,
                "default": limit.default,
                "pause": limit.pause,
            }
        )


class LimitList(Shape):
    """The output of `limits ls`."""

    limits: tuple[Limit, ...]

    @classmethod
    def of(cls, found: Sequence[LimitState]) -> Self:
        """Convert rows of the ledger."""
        return cls(limits=tuple(map(Limit.of, found)))


class JobEvent(Shape):
    """Something that somebody did."""

    id: int
    at: datetime
    actor: str
    """Who did it: the system's user and host, in a pod its service account, an application whose deploy changed a
    limit, or the name given with `spoke-jobs COMMAND --as`. Nobody verifies it. Empty if unknown."""
    action: str
    """`cancel`, `retry`, `run now`, `set priority`, `suspend job`, `resume job`, `prune`, `retry task`, `pause`,
    `resume`, `set limit`, `reset limit`, or what was done to a schedule: `add schedule` for example."""
    job_id: int | None
    """The job may be deleted since; null if it concerns several jobs, or a task."""
    job_type: str
    detail: str


class Events(Shape):
    """The output of `events`."""

    events: tuple[JobEvent, ...]
    """The newest first."""

    @classmethod
    def of(cls, found: Sequence[Event]) -> Self:
        """Convert rows of the ledger."""
        return cls(events=tuple(JobEvent.model_validate(event) for event in found))


class BatchState(Shape):
    """The output of `batches show`."""

    id: int
    name: str
    on_failed: str
    """`fail` or `run`: what follows if one of its jobs fails."""
    total: int
    succeeded: int
    failed: int
    then_id: int | None
    """The job that follows."""
    created_at: datetime
    closed_at: datetime | None
    """Null while more jobs are expected from outside."""
    finished_at: datetime | None

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Convert a row."""
        return cls.model_validate(batch)


class Batches(Shape):
    """The output of `batches ls`."""

    batches: tuple[BatchState, ...]

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> Self:
        """Convert rows."""
        return cls(batches=tuple(BatchState.of(batch) for batch in batches))
