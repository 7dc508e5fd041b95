"""What follows from ends whose own transaction did not handle all that depends on them. The caller commits."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from spoke_jobs.ledger.lifecycle import finish
from spoke_jobs.ledger.sql.each_alone import change_each
from spoke_jobs.ledger.sql.expressions import unsettled
from spoke_jobs.ledger.tables import job_request


class Settled(NamedTuple):
    """What one call of :func:`settle_ended` did."""

    jobs: int
    """For how many jobs it has handled dependents."""
    last: int
    """The id of the last job that it came to; 0 if there is none behind it."""


def settle_ended(connection: Connection, limit: int = 100, above: int = 0) -> Settled:
    """Go on with the dependents of ended jobs, after ``finish.settle`` or an end that an older release recorded.

    It ends after :data:`~spoke_jobs.ledger.lifecycle.finish.SETTLING_SECONDS`, because the process has other work.

    :param above: begin behind this job, and with the first one if there is none: what the last call came to and could
        not handle keeps no other waiting.
    """
    until = time.monotonic() + finish.SETTLING_SECONDS
    last = 0

    def settle_one(row: Row[Any]) -> bool:
        nonlocal last
        last = row.id
        while not finish.settle(connection, row.id) and time.monotonic() < until:
            pass
        return True

    ended = select(job_request.c.id).where(unsettled()).order_by(job_request.c.id).with_for_update(skip_locked=True)
    for begin in [above, 0] if above else [0]:
        behind = ended.where(job_request.c.id > begin)
        done = change_each(connection, behind, job_request.c.id, limit, settle_one, finish.SETTLING_SECONDS)
        if last:
            return Settled(len(done), last)
    return Settled(0, 0)
