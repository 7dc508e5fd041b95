"""Move jobs that have waited for a free worker for too long to pods. The caller commits."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from spoke_jobs.contract.executors import CLUSTER_RUNNER
from spoke_jobs.ledger.claims import limited_claims
from spoke_jobs.ledger.claims.eligibility import in_sql, of_overflow
from spoke_jobs.ledger.columns.clock import DATABASE_CLOCK
from spoke_jobs.ledger.lifecycle import transitions
from spoke_jobs.ledger.sql.each_alone import change_each
from spoke_jobs.ledger.sql.expressions import increased
from spoke_jobs.ledger.tables import job_request


def overflowed(connection: Connection, limit: int) -> list[int]:
    """Return the ids of the oldest jobs of the lane `worker` that a free worker would have started in time."""
    return list(connection.scalars(_overflowed(connection).limit(limit)))


def move_to_pods(connection: Connection, ids: Collection[int]) -> list[int]:
    """Move those of the jobs that still wait for a free worker. Return their ids."""
    if not ids:
        return []
    still = _overflowed(connection).where(job_request.c.id.in_(sorted(ids)))
    changes = transitions.job_overflowed(DATABASE_CLOCK, CLUSTER_RUNNER, increased(job_request.c.run))

    def move(row: Row[Any]) -> int:
        connection.execute(update(job_request).where(job_request.c.id == row.id).values(changes))
        return int(row.id)

    return change_each(connection, still.with_for_update(skip_locked=True), job_request.c.id, len(ids), move)


def _overflowed(connection: Connection) -> Select[Any]:
    closed = limited_claims.current_admission(connection).closed()
    return select(job_request.c.id).where(*in_sql(*of_overflow(closed))).order_by(job_request.c.id)
