"""What is known of the workers that may take the waiting jobs of a runner.

The ledger does not record workers. It knows them by the attempts that they claim.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, FromClause, Select, desc, func, select

from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.columns.clock import clock_now
from spoke_jobs.ledger.reading.usage_queries import newest_successes
from spoke_jobs.ledger.sql.expressions import constant, number_in_text
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import AttemptState

TRACES = 500
"""How many of the newest attempts are read to find workers. The ledger does not record workers elsewhere."""

_UNSEEN_TYPES = 20
"""Of how many types that have no recent attempt the successes are read."""

_SUCCESSES = 20
"""How many successes of such a type are read."""

_RULE_CHANGES = (Action.RESUME, Action.SET_LIMIT, Action.RESET_LIMIT, Action.SET_PRIORITY)
"""What changes which jobs may start, or come first. A pause is a reason of its own."""


@dataclass(frozen=True, slots=True)
class Load:
    """The attempts running on one worker."""

    worker: str
    running: int
    lapsed: int
    """How many of them have a lapsed lease: their worker may be gone."""
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True)
class Trace:
    """An attempt, as evidence of the worker that claimed it."""

    priority: int
    job_id: int
    job_type: str
    queue_name: str
    locks_queue: bool
    organization_id: int | None
    worker: str
    claimed_at: datetime
    heartbeat_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Takers:
    """What is known of the workers of one runner, and of what they were allowed to claim."""

    load: tuple[Load, ...] = ()
    """Running attempts, by worker."""
    traces: tuple[Trace, ...] = ()
    """The newest attempts, newest first, at most :data:`TRACES`."""
    known_to: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The workers that ran the newest successes of a type, by type. Only of types that no trace has."""
    rules_since: datetime | None = None
    """When a limit, a pause or a job's priority was changed last; None if that is not known, or long ago."""


NOBODY = Takers()


def takers_of(connection: Connection, runner: str, types: Collection[str]) -> Takers:
    """Read what is known of the workers of a runner.

    :param types: those of the jobs that wait for them.
    """
    traces = _traces(connection, runner)
    unseen = sorted(set(types) - {trace.job_type for trace in traces})[:_UNSEEN_TYPES]
    changed = audit_events.last_of(connection, _RULE_CHANGES)
    return Takers(_load(connection, runner), traces, _workers_of(connection, unseen), changed)


def _workers_of(connection: Connection, types: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the workers of the newest successes of each type."""

    def workers(newest: FromClause) -> Select[Any]:
        return select(newest.c.name, job_attempt.c.worker).where(job_attempt.c.job_id == newest.c.id).distinct()

    found: dict[str, set[str]] = {name: set() for name in types}
    if types:
        for name, worker in newest_successes(connection, types, _SUCCESSES, workers):
            found[name].add(worker)
    return {name: frozenset(those) for name, those in found.items()}


def _load(connection: Connection, runner: str) -> tuple[Load, ...]:
    lapsed = func.count().filter(job_attempt.c.lease_expires_at < clock_now())
    statement = (
        select(job_attempt.c.worker, func.count(), lapsed, func.max(job_attempt.c.heartbeat_at))
        .join(job_request, job_request.c.id == job_attempt.c.job_id)
        .where(job_attempt.c.state == constant(AttemptState.RUNNING), job_request.c.runner == runner)
        .group_by(job_attempt.c.worker)
        .order_by(job_attempt.c.worker)
    )
    return tuple(Load(*row) for row in connection.execute(statement))


def _traces(connection: Connection, runner: str) -> tuple[Trace, ...]:
    newest = select(job_attempt).order_by(desc(job_attempt.c.id)).limit(number_in_text(TRACES)).subquery()
    statement = (
        select(
            job_request.c.rank,
            job_request.c.id,
            job_request.c.job_type,
            job_request.c.queue_name,
            job_request.c.locks_queue,
            job_request.c.organization_id,
            newest.c.worker,
            newest.c.claimed_at,
            newest.c.heartbeat_at,
            newest.c.finished_at,
        )
        .join(newest, newest.c.job_id == job_request.c.id)
        .where(job_request.c.runner == runner)
        .order_by(desc(newest.c.id))
    )
    return tuple(_trace(*row) for row in connection.execute(statement))


def _trace(rank: object, *values: Any) -> Trace:
    return Trace(-rank if isinstance(rank, int) else 0, *values)  # in SQL, the smallest has no negative
