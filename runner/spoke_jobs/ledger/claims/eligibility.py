"""The conditions under which a waiting job may start, in SQL.

Claims, counts, listings, sync and `why` compose them, so that all agree on which jobs may start. To add a condition to
each claim, write its class here and name it in :data:`CLAIMABLE`. With its text (:attr:`Condition.unmet`), `why` names
it, for one job and for all. A contract test compares the forms of each condition with a predicate on a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from sqlalchemy import ColumnElement, and_, case, false, func, not_, or_, select, true

from spoke_jobs.contract.executors import CLUSTER_RUNNER, LANE_RUNNER, Lane, lane_of
from spoke_jobs.contract.limit_scopes import (
    ALL_KINDS,
    DIMENSIONS,
    PLAIN_DIMENSIONS,
    TYPE_DIMENSION,
    Dimension,
    ScopeKind,
)
from spoke_jobs.contract.option_checks import LARGEST_NUMBER
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.columns.clock import clock_after, clock_now
from spoke_jobs.ledger.columns.column_types import TEXT_LIMIT_BYTES
from spoke_jobs.ledger.sql.expressions import (
    clock_once,
    constant,
    due_since,
    known_in_sql,
    later_of,
    like_patterns,
    option_seconds,
    postgresql_text,
)
from spoke_jobs.ledger.sql.filters import like_pattern, matching
from spoke_jobs.ledger.tables import DUE_FROM, job_request, queue_lock, sql_name
from spoke_jobs.limits.admission import Closed
from spoke_jobs.model import ClaimFilter, JobRequest, JobState
from spoke_jobs.type_names import SUFFIX


@dataclass(frozen=True, slots=True)
class Unmet:
    """What `why` says of due jobs that do not fulfill a condition. The same texts serve one job and many."""

    text: str
    """Why no worker starts them: the end of a sentence."""
    advice: str = ""
    """A sentence; empty if nothing needs to be done."""


class Condition(ABC):
    """A condition on a row of ``job_request``. All forms give the same result."""

    __slots__ = ()
    text: ClassVar[str] = ""
    """PostgreSQL, with the parameters of :meth:`values`. Empty for a condition without parameters, whose text follows
    from its expression."""
    unmet: ClassVar[Unmet | None] = None
    """What `why` says if it does not hold. None for a condition that depends on the worker, or that `why` explains in a
    way of its own, for example with the job that holds the lock."""

    @classmethod
    def of(cls, request: ClaimRequest) -> Self:
        """Return the condition of a claim."""
        return cls()

    @abstractmethod
    def expression(self) -> ColumnElement[bool]:
        """Return the condition as an expression of SQLAlchemy, for both databases."""

    def values(self) -> dict[str, Any]:
        """Return the parameters of :attr:`text`."""
        return {}


@dataclass(frozen=True, slots=True)
class Waiting(Condition):
    """It waits for an attempt: it has not ended, does not run, and is not blocked."""

    text = f"state = '{JobState.WAITING}'"

    def expression(self) -> ColumnElement[bool]:
        waits: ColumnElement[bool] = job_request.c.state == constant(JobState.WAITING)
        return waits


@dataclass(frozen=True, slots=True)
class OfRunner(Condition):
    """Its runner is this one."""

    text = "runner = :runner"
    runner: str

    @classmethod
    def of(cls, request: ClaimRequest) -> Self:
        return cls(request.runner)

    def expression(self) -> ColumnElement[bool]:
        return job_request.c.runner == self.runner

    def values(self) -> dict[str, Any]:
        return {"runner": self.runner}


@dataclass(frozen=True, slots=True)
class OfCluster(Condition):
    """The operator starts its attempts, in pods."""

    def expression(self) -> ColumnElement[bool]:
        # A constant, so that a prepared plan can use a partial index.
        of_cluster: ColumnElement[bool] = job_request.c.runner == constant(CLUSTER_RUNNER)
        return of_cluster


@dataclass(frozen=True, slots=True)
class NotSuspended(Condition):
    """Nobody has suspended it."""

    def expression(self) -> ColumnElement[bool]:
        return job_request.c.suspended_at.is_(None)


@dataclass(frozen=True, slots=True)
class Due(Condition):
    """Its ``run_after`` has passed, and nobody has suspended it.

    So whatever counts, claims or launches due jobs leaves out suspended ones.
    """

    def expression(self) -> ColumnElement[bool]:
        return and_(clock_once() >= DUE_FROM, NotSuspended().expression())


@dataclass(frozen=True, slots=True)
class WithinStartTimeout(Condition):
    """It has been started before, or its start timeout has not expired."""

    unmet = Unmet(
        "the start timeout has expired", "Check that a worker runs: it ends such jobs as StartTimeout within seconds."
    )

    def expression(self) -> ColumnElement[bool]:
        return or_(job_request.c.start_by.is_(None), job_request.c.attempt > 0, job_request.c.start_by > clock_now())


@dataclass(frozen=True, slots=True)
class StartTimedOut(Condition):
    """It has not been started before, and its start timeout has expired. The reverse of :class:`WithinStartTimeout`.

    It has an expression of its own, which an index by ``start_by`` serves.
    """

    def expression(self) -> ColumnElement[bool]:
        return and_(job_request.c.start_by < clock_once(), job_request.c.attempt <= 0)


def start_deadline(job: JobRequest) -> datetime | None:
    """Return until when a job must be started for the first time; None if it needn't."""
    return job.start_by if job.attempt <= 0 else None


@dataclass(frozen=True, slots=True)
class OfTypes(Condition):
    """Its type is one of the worker's."""

    text = (
        f"(job_type = ANY(:names) OR (octet_length(job_type) <= {TEXT_LIMIT_BYTES} AND job_type LIKE ANY(:patterns)))"
    )
    types: Collection[str]
    """Names, and prefixes like ``ingest.*``."""

    @classmethod
    def of(cls, request: ClaimRequest) -> Self:
        return cls(request.types)

    def expression(self) -> ColumnElement[bool]:
        return known_in_sql(job_request.c.job_type, self.types)

    def values(self) -> dict[str, Any]:
        names = [name for name in self.types if not name.endswith(SUFFIX)]
        return {"names": names, "patterns": like_patterns(self.types)}


@dataclass(frozen=True, slots=True)
class QueueFree(Condition):
    """It needs no queue lock, or its queue's lock is free."""

    text = f"NOT (locks_queue AND queue_name IN (SELECT queue_name FROM {sql_name('queue_lock')}))"  # noqa: S608

    def expression(self) -> ColumnElement[bool]:
        return or_(~job_request.c.locks_queue, job_request.c.queue_name.not_in(select(queue_lock.c.queue_name)))


CLAIMABLE: tuple[type[Condition], ...] = (Waiting, OfRunner, Due, WithinStartTimeout, OfTypes, QueueFree)
"""The conditions of each claim."""
_OF_THE_JOB = tuple(kind() for kind in CLAIMABLE if kind not in (OfRunner, OfTypes))
"""Those of them that do not depend on the worker."""
EXPLAINED = {type(condition).__name__: condition.unmet for condition in _OF_THE_JOB if condition.unmet is not None}
"""What `why` says of each of them, by its name."""


def first_unmet() -> ColumnElement[str]:
    """Return the name of the first condition of :data:`EXPLAINED` that a row does not fulfill; empty for none."""
    named = (
        (not_(func.coalesce(condition.expression(), false())), type(condition).__name__)
        for condition in _OF_THE_JOB
        if condition.unmet is not None
    )
    return case(*named, else_="")


@dataclass(frozen=True, slots=True)
class Selected(Condition):
    """The worker takes it. A claim of a worker that takes all jobs of its types does without this condition."""

    text = (
        "(:any_type OR job_type LIKE ANY(:only_types)) AND NOT (job_type LIKE ANY(:not_types))\n"
        "      AND (:any_queue OR queue_name LIKE ANY(:only_queues)) AND NOT (queue_name LIKE ANY(:not_queues))\n"
        "      AND (:queue_locks OR NOT locks_queue)"
    )
    only: ClaimFilter

    @classmethod
    def of(cls, request: ClaimRequest) -> Self:
        return cls(request.only)

    def expression(self) -> ColumnElement[bool]:
        only, job_type, queue = self.only, job_request.c.job_type, job_request.c.queue_name
        return and_(
            *([_any_of(job_type, only.types)] if only.types else []),
            *([_any_of(queue, only.queues)] if only.queues else []),
            *([not_(_any_of(job_type, only.not_types))] if only.not_types else []),
            *([not_(_any_of(queue, only.not_queues))] if only.not_queues else []),
            true() if only.queue_locks else not_(job_request.c.locks_queue),
        )

    def values(self) -> dict[str, Any]:
        only = self.only
        return {
            "any_type": not only.types,
            "only_types": list(map(like_pattern, only.types)),
            "not_types": list(map(like_pattern, only.not_types)),
            "any_queue": not only.queues,
            "only_queues": list(map(like_pattern, only.queues)),
            "not_queues": list(map(like_pattern, only.not_queues)),
            "queue_locks": only.queue_locks,
        }


def _any_of(column: ColumnElement[str], patterns: Iterable[str]) -> ColumnElement[bool]:
    return or_(false(), *(matching(column, pattern) for pattern in patterns))


def _open_text(dimension: Dimension, kinds: frozenset[ScopeKind]) -> str:
    """Return the condition of claims that a job's queue, for example, is not closed."""
    column, each = dimension.field, dimension.each in kinds
    if dimension is TYPE_DIMENSION:
        return "NOT (job_type = ANY(:closed_types) OR job_type LIKE ANY(:closed_patterns))"
    if not job_request.c[column].nullable:
        every = f" OR (:every_{column} AND {column} <> '')" if each else ""
        return f"NOT ({column} = ANY(:closed_{column}){every})"
    if not each:
        return f"NOT coalesce({column} = ANY(:closed_{column}), false)"
    return f"({column} IS NULL\n           OR NOT (:every_{column} OR {column} = ANY(:closed_{column})))"


def open_text(kinds: frozenset[ScopeKind]) -> str:
    """Return the text of :class:`Open` in a ledger whose limits have only these forms of scopes."""
    texts = [_open_text(dimension, kinds) for dimension in DIMENSIONS if dimension.kinds & kinds]
    return "\n      AND ".join(texts or ["true"])


@dataclass(frozen=True, slots=True)
class Open(Condition):
    """No scope to which it belongs is closed by a pause, a limit or a rate.

    If everything is closed, there is no search: the text has no parameter for that.
    """

    text = open_text(ALL_KINDS)
    closed: Closed

    def expression(self) -> ColumnElement[bool]:
        closed = self.closed
        return and_(
            false() if closed.everything else true(),
            not_(known_in_sql(job_request.c.job_type, closed.types)),
            *(self._open(dimension) for dimension in PLAIN_DIMENSIONS),
        )

    def _open(self, dimension: Dimension) -> ColumnElement[bool]:
        column, every = job_request.c[dimension.field], dimension.kind in self.closed.every
        named = column.not_in(self._names(dimension))
        if not column.nullable:
            return column == "" if every else named
        return column.is_(None) if every else or_(column.is_(None), named)

    def values(self) -> dict[str, Any]:
        closed = self.closed
        return {
            "closed_types": list(closed.types),
            "closed_patterns": like_patterns(closed.types),
            **{f"closed_{dimension.field}": self._names(dimension) for dimension in PLAIN_DIMENSIONS},
            **{
                f"every_{dimension.field}": dimension.kind in closed.every
                for dimension in PLAIN_DIMENSIONS
                if dimension.each
            },
        }

    def _names(self, dimension: Dimension) -> list[Any]:
        names = self.closed.names(dimension)
        return [int(name) for name in names if int(name) <= LARGEST_NUMBER] if dimension.is_number else list(names)


@dataclass(frozen=True, slots=True)
class NotSubmitted(Condition):
    """No SpokeJob is known to have been created for it."""

    def expression(self) -> ColumnElement[bool]:
        return job_request.c.submitted_at.is_(None)


@dataclass(frozen=True, slots=True)
class NotBegun(Condition):
    """No attempt of its run has begun. Other code may have written a number below 0."""

    def expression(self) -> ColumnElement[bool]:
        return job_request.c.attempt <= 0


@dataclass(frozen=True, slots=True)
class OfAge(Condition):
    """It was dispatched at least so many seconds ago."""

    seconds: float

    def expression(self) -> ColumnElement[bool]:
        return job_request.c.created_at <= clock_after(-self.seconds)


@dataclass(frozen=True, slots=True)
class Overflowed(Condition):
    """It has waited for a worker for longer than its option ``overflow_seconds``."""

    def expression(self) -> ColumnElement[bool]:
        longest = option_seconds("overflowSeconds")
        return and_(longest > 0, later_of(job_request.c.updated_at, due_since()) < clock_after(-longest))


def overflows_at(job: JobRequest) -> datetime | None:
    """Return when a job of the lane `worker` moves to a pod unless it has started; None if it does not move."""
    longest = job.options.overflow_seconds
    if longest is None or lane_of(job.runner) is not Lane.WORKER:
        return None
    return waiting_since(job) + timedelta(seconds=longest)


def waiting_since(job: JobRequest) -> datetime:
    """Return since when a waiting job has waited for somebody to run it, or when it will begin to."""
    return max(job.updated_at, job.due_at)


def of_free_worker(closed: Closed) -> tuple[Condition, ...]:
    """Return the conditions under which a free worker would start a job of the lane `worker`.

    :param closed: what a pause, a limit or a rate holds back. A job of it waits for that, wherever it is to run.
    """
    return (OfRunner(LANE_RUNNER), *_OF_THE_JOB, Open(closed))


def of_overflow(closed: Closed) -> tuple[Condition, ...]:
    """Return the conditions under which sync moves a job of the lane `worker` to a pod.

    :param closed: see :func:`of_free_worker`.
    """
    return (*of_free_worker(closed), Overflowed())


def of_claim(request: ClaimRequest) -> tuple[Condition, ...]:
    """Return the conditions of a claim."""
    kinds: tuple[type[Condition], ...] = (*CLAIMABLE, Selected) if request.filtered else CLAIMABLE
    return tuple(kind.of(request) for kind in kinds)


def launch_times(age_seconds: float) -> tuple[Condition, ...]:
    """Return when sync may create a SpokeJob: of a job that is due, and at least so old."""
    return (Due(), OfAge(age_seconds))


def may_launch(job: JobRequest, now: datetime, age_seconds: float) -> bool:
    """Return whether a row fulfills the conditions of :func:`launch_times`."""
    due = job.suspended_at is None and job.due_later(now) is None
    return due and job.created_at <= now - timedelta(seconds=age_seconds)


def not_launched() -> tuple[Condition, ...]:
    """Return the conditions of a job without a SpokeJob, due or not."""
    return (Waiting(), OfCluster(), NotSubmitted())


def of_launch(age_seconds: float) -> tuple[Condition, ...]:
    """Return the conditions under which sync creates a job's first SpokeJob."""
    return (*not_launched(), *launch_times(age_seconds))


def in_sql(*conditions: Condition) -> list[ColumnElement[bool]]:
    """Return conditions for the WHERE clause of a statement."""
    return [condition.expression() for condition in conditions]


def in_text(*kinds: type[Condition]) -> str:
    """Return conditions for the text of a statement, for PostgreSQL."""
    return "\n      AND ".join(kind.text or f"({postgresql_text(kind().expression())})" for kind in kinds)
