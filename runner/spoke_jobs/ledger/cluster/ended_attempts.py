"""The attempts that have ended since the last look, with what they used, for metrics.

A look costs nothing that grows with history: it reads the attempts that were claimed since the last one, and those that
ran then, both by the primary key.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, select, type_coerce

from spoke_jobs.contract.executors import lane_of
from spoke_jobs.ledger.columns.clock import clock_after, waited_seconds
from spoke_jobs.ledger.columns.column_types import StoredJson
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import USAGE_FIELDS, AttemptState, AttemptUsage, JobOptions

_SETTLED_SECONDS = 5.0
"""How old an attempt must be: until then, the transaction of one with a smaller id may not be committed."""
_OPTIONS_BYTES = 4_000
"""The largest options that are read: a look reads those of thousands of jobs, whatever other code has written."""


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt of a job of the runner `kubernetes`, in a lane, that has ended."""

    job_type: str
    runner: str
    """The runner of its row; empty if an earlier release claimed it."""
    options: JobOptions
    usage: AttemptUsage
    queue_name: str = ""
    organization_id: int | None = None
    succeeded: bool = False
    run_seconds: float | None = None
    """From its claim to its end; None if that is unknown."""
    wait_seconds: float | None = None
    """From the creation of the job's SpokeJob to the claim, if it was the first attempt; else None."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look has found, and where the next one begins."""

    ended: tuple[EndedAttempt, ...] = ()
    last: int | None = None
    """The id of the newest attempt that was seen; None before the first look."""
    running: frozenset[int] = frozenset()
    """The attempts that were seen and have not ended."""
    more: bool = False
    """Whether there are further attempts that were claimed since."""


FIRST_LOOK = Look()


def look(connection: Connection, before: Look, limit: int) -> Look:
    """Return the attempts that have ended since a look. The first look finds none, and begins with the newest attempt.

    Attempts of other runners' jobs are read, so that the next look begins behind them, and left out.

    :param limit: the most attempts that are read; of those that ran before, the same number at most is remembered.
    """
    if before.last is None:
        return Look(last=connection.scalar(select(func.max(job_attempt.c.id))) or 0)
    claimed = _attempts().where(
        job_attempt.c.id > before.last, job_attempt.c.claimed_at < clock_after(-_SETTLED_SECONDS)
    )
    new = connection.execute(claimed.order_by(job_attempt.c.id).limit(limit)).all()
    old = connection.execute(_of(before.running)).all() if before.running else []
    of_lanes = [row for row in (*old, *new) if lane_of(row.job_runner) is not None]
    ended = [row for row in of_lanes if row.state != AttemptState.RUNNING]
    running = [row.id for row in of_lanes if row.state == AttemptState.RUNNING]
    return Look(
        tuple(
            EndedAttempt(
                row.job_type,
                row.runner,
                _options(row.options),
                AttemptUsage(*(getattr(row, name) for name in USAGE_FIELDS)),
                row.queue_name,
                row.organization_id,
                row.state == AttemptState.SUCCEEDED,
                _between(row.claimed_at, row.finished_at),
                _between(row.submitted_at, row.claimed_at) if row.run == row.number == 1 else None,
            )
            for row in ended
        ),
        new[-1].id if new else before.last,
        frozenset(sorted(running)[-limit:]),
        len(new) == limit,
    )


def _of(ids: Collection[int]) -> Select[Any]:
    return _attempts().where(job_attempt.c.id.in_(sorted(ids)))


def _attempts() -> Select[Any]:
    return select(
        job_attempt.c.id,
        job_attempt.c.state,
        job_attempt.c.runner,
        job_attempt.c.run,
        job_attempt.c.number,
        job_attempt.c.claimed_at,
        job_attempt.c.finished_at,
        job_request.c.job_type,
        job_request.c.queue_name,
        job_request.c.organization_id,
        job_request.c.submitted_at,
        job_request.c.runner.label("job_runner"),
        type_coerce(job_request.c.options, StoredJson(_OPTIONS_BYTES)).label("options"),
        *(job_attempt.c[name] for name in USAGE_FIELDS),
    ).join(job_request, job_request.c.id == job_attempt.c.job_id)


def _between(since: datetime | None, until: datetime | None) -> float | None:
    return None if since is None or until is None else waited_seconds(since, until)


def _options(stored: object) -> JobOptions:
    return JobOptions.from_json(stored if isinstance(stored, dict) else {})
