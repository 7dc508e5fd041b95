"""The limits as a process last read them, and whether they are still the current ones.

On PostgreSQL the sequence that numbers the rows of ``job_limit`` also numbers their changes: each change takes a number
while it holds its lock on the table (:mod:`.limit_rows`). Reading the last number costs a claim some microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, func, select, text

from spoke_jobs.contract.limit_scopes import ScopeKind
from spoke_jobs.ledger.limits_and_pauses.limit_rows import LAST_CHANGE, read_limits
from spoke_jobs.ledger.sql.expressions import like_patterns
from spoke_jobs.ledger.tables import job_limit, sql_name
from spoke_jobs.limits.admission import LimitSet

_JOB_LIMIT = sql_name("job_limit")

# FOR KEY SHARE locks the table, and no row, as in `claims/bulk.py`. Count and time show changes by hand in the
# database, too.
_VERSION: Mapping[str, Any] = {
    "postgresql": text(
        f"WITH locked AS MATERIALIZED (SELECT 1 FROM {_JOB_LIMIT} WHERE id < 0 FOR KEY SHARE) "  # noqa: S608
        f"SELECT {LAST_CHANGE} AS change, count(*) AS number, max(updated_at) AS changed_at, "
        f"(SELECT count(*) FROM locked) AS locked FROM {_JOB_LIMIT}"
    ),
    "sqlite": select(
        func.count().label("change"), func.count().label("number"), func.max(job_limit.c.updated_at).label("changed_at")
    ).select_from(job_limit),
}


@dataclass(frozen=True)
class KnownLimits:
    """The limits at one time."""

    version: tuple[int, int, object]
    """The number of the last change; how many limits there are, and when one was last changed."""
    limits: LimitSet

    @property
    def rows(self) -> int:
        """How many limits there are, with those that this release can't read."""
        return self.version[1]

    @cached_property
    def type_patterns(self) -> list[str]:
        """The patterns of LIKE of the types that begin with a prefix and have a limit."""
        return like_patterns([scope.name for scope in self.limits.scopes if scope.kind is ScopeKind.TYPE])


class LimitCache:
    """The limits as they were last read. They are read again when one has changed."""

    def __init__(self) -> None:
        self.known = KnownLimits((-1, 0, None), LimitSet(()))

    def read(self, connection: Connection) -> LimitSet:
        """Return the current limits. They do not change until the transaction's end."""
        row = connection.execute(_VERSION[connection.dialect.name]).one()
        version = (row.change, row.number, row.changed_at)
        known = self.known  # once: another thread may replace it by what it has read before
        if version != known.version:
            known = self.known = KnownLimits(version, LimitSet(read_limits(connection)))
        return known.limits
