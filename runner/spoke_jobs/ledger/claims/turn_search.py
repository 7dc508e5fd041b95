"""Look for organizations with waiting jobs, and for the next jobs in the order of turns.

A partial index has the waiting jobs that have an organization, by organization, then in the order of claims. The look
jumps from one organization to the next in it, and reads the first jobs of each. It thus reads as much beside 100,000
due jobs as beside 100. But it also reads the jobs that are not due yet, and those of other workers' types, if they come
before: the index does not have these columns. A look that takes long makes the next one wait (:class:`TurnPlan`). A
ledger whose jobs have no organization has nothing in this index.

The jobs without an organization are one party of turns. They are looked for in the order of claims, where any number of
others may come before them. That search has a time budget of its own, and starts where it last found one.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, text

from spoke_jobs.contract.limit_scopes import ScopeKind
from spoke_jobs.ledger.claims.claim_cursor import Place
from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.claim_turns import DueJob, LastTurns, TurnPlan, planned
from spoke_jobs.ledger.claims.due_jobs import VARIANTS, Start, Variant, search, search_text, search_values, steps_search
from spoke_jobs.ledger.claims.eligibility import OfRunner, Open, Waiting, in_text
from spoke_jobs.ledger.limits_and_pauses import current_limits
from spoke_jobs.ledger.limits_and_pauses.limit_cache import KnownLimits, LimitCache
from spoke_jobs.ledger.tables import job_request, sql_name
from spoke_jobs.limits.admission import NOTHING_CLOSED, Closed

_PLANNED = 500
"""How many jobs a look reads at most, unless it finds more organizations: then one of each."""
_ORGANIZATIONS = 1000
"""How many organizations a look finds at most. The next look goes on behind them."""
_BY_ORGANIZATION = frozenset({ScopeKind.ORGANIZATION})
_FIRST_NUMBER = -(2**31)
_TIMES = 50
"""How many times as long as a search for jobs without an organization there is no other one from the start."""

_NEXT = f"""SELECT organization_id FROM {sql_name("job_request")}
        WHERE {in_text(Waiting, OfRunner)} AND organization_id IS NOT NULL AND organization_id > {{after}}
        ORDER BY organization_id LIMIT 1"""  # noqa: S608  (constants)
_PARTIES = text(f"""
WITH RECURSIVE party (organization_id) AS (
    SELECT * FROM ({_NEXT.format(after=":after")}) AS first_one
    UNION ALL
    SELECT ({_NEXT.format(after="party.organization_id")}) FROM party WHERE party.organization_id IS NOT NULL
)
SELECT organization_id FROM party WHERE organization_id IS NOT NULL LIMIT {_ORGANIZATIONS}
""")  # noqa: S608  (constants)
"""The organizations with waiting jobs, by their numbers. Each costs one look into the index."""
_COLUMNS = "id, rank, organization_id"
_FIRST = {
    filtered: search_text(
        f"SELECT job.* FROM unnest(cast(:parties AS integer[])) AS party (number) CROSS JOIN LATERAL ("  # noqa: S608
        f"SELECT {_COLUMNS} FROM {sql_name('job_request')} WHERE organization_id = party.number AND "
        f"{search(Variant(Start.HEAD, filtered), Open)}) AS job"
    )
    for filtered in (False, True)
}
"""The first jobs of each organization (PostgreSQL)."""
_WITHOUT = {
    variant: search_text(
        f"SELECT {_COLUMNS} FROM {sql_name('job_request')} WHERE organization_id IS NULL AND {search(variant, Open)}"  # noqa: S608
    )
    for variant in VARIANTS
    if variant.start is not Start.TURNS
}
"""The first jobs without an organization (PostgreSQL)."""


@dataclass(slots=True)
class TurnSearch:
    """Makes the plans of turns of one kind of request."""

    reading: Callable[[], AbstractContextManager[Connection]]
    """Opens a connection for a query."""
    cache: LimitCache
    plan: TurnPlan = field(default_factory=TurnPlan)
    _after: int = _FIRST_NUMBER
    """The organization behind which the next look begins."""
    _without: Place | None = None
    """Where the first job without an organization was found."""
    _without_due: float = 0.0
    _looked_under: KnownLimits | None = None
    """The limits at the last look."""

    def look_due(self) -> bool:
        """Return whether to look now for organizations with waiting jobs."""
        return self.plan.look_due(time.monotonic(), changed=self.cache.known is not self._looked_under)

    def look(self, request: ClaimRequest, turns: LastTurns, *, limited: bool) -> None:
        """Make a new plan.

        :param limited: whether the ledger has limits.
        """
        ids = None
        with self.reading() as connection:
            began = time.monotonic()  # does not include the time to connect
            try:
                ids = self._next_jobs(connection, request, turns, limited=limited)
            finally:  # also if the database ended the search, because it took too long
                now = time.monotonic()
                self.plan = self.plan.after_look(now, now - began, ids)
                self._looked_under = self.cache.known

    def _next_jobs(
        self, connection: Connection, request: ClaimRequest, turns: LastTurns, *, limited: bool
    ) -> tuple[int, ...] | None:
        """Return the next jobs; empty if at most one organization waits; None if a limit lets nothing start now."""
        parties = self._parties(connection, request.runner)
        if not parties:
            return ()
        closed = current_limits.closed_scopes(connection, self.cache) if limited else NOTHING_CLOSED
        if closed.everything:
            return None
        # A power of two, so that there are few statements.
        each = 1 << max(0, (_PLANNED // (len(parties) + 1)).bit_length() - 1)
        wanted = replace(request, limit=each, place=None, turns=())
        jobs = self._without_organization(connection, wanted, closed)
        if len(parties) == 1 and not jobs:
            return ()
        jobs += _first_jobs(connection, wanted, parties, closed)
        if len({job.organization_id for job in jobs}) < 2:
            return ()
        running = current_limits.running_jobs(connection, _BY_ORGANIZATION)
        by_organization = Counter({subject.organization_id: count for subject, count in running.items()})
        return planned(jobs, by_organization, turns)

    def _parties(self, connection: Connection, runner: str) -> list[int]:
        found = _parties_after(connection, runner, self._after)
        if not found and self._after != _FIRST_NUMBER:
            found = _parties_after(connection, runner, _FIRST_NUMBER)
        self._after = found[-1] if len(found) == _ORGANIZATIONS else _FIRST_NUMBER
        return found

    def _without_organization(self, connection: Connection, request: ClaimRequest, closed: Closed) -> list[DueJob]:
        began = time.monotonic()
        place = None if began >= self._without_due else self._without
        if place is None and began < self._without_due:
            return []
        found = _jobs_without(connection, replace(request, place=place), closed)
        if place is None:
            now = time.monotonic()
            self._without_due = now + _TIMES * (now - began)
        self._without = (found[0].rank, found[0].id) if found else None
        return found


def _parties_after(connection: Connection, runner: str, after: int) -> list[int]:
    found = connection.scalars(_PARTIES, {"runner": runner, "after": after})
    return [number for number in found if isinstance(number, int)]  # on SQLite, other code may have written any value


def _first_jobs(connection: Connection, request: ClaimRequest, parties: Sequence[int], closed: Closed) -> list[DueJob]:
    """Read the first jobs of each organization."""
    if connection.dialect.name == "postgresql":
        values = search_values(request) | Open(closed).values() | {"parties": list(parties)}
        return _due_jobs(connection.execute(_FIRST[request.filtered], values))
    party = func.json_each(bindparam("parties", json.dumps(parties))).table_valued("value")
    first = job_request.alias("first")
    ids = (
        steps_search(request)
        .where(Open(closed).expression(), job_request.c.organization_id == party.c.value)
        .with_only_columns(job_request.c.id)
        .correlate(party)
    )
    statement = select(first.c.id, first.c.rank, first.c.organization_id).select_from(party)
    return _due_jobs(connection.execute(statement.join(first, first.c.id.in_(ids))))


def _jobs_without(connection: Connection, request: ClaimRequest, closed: Closed) -> list[DueJob]:
    """Read the first jobs without an organization."""
    if connection.dialect.name == "postgresql":
        values = search_values(request) | Open(closed).values()
        return _due_jobs(connection.execute(_WITHOUT[Variant.of(request)], values))
    columns = (job_request.c.id, job_request.c.rank, job_request.c.organization_id)
    conditions = (Open(closed).expression(), job_request.c.organization_id.is_(None))
    return _due_jobs(connection.execute(steps_search(request).where(*conditions).with_only_columns(*columns)))


def _due_jobs(rows: Any) -> list[DueJob]:
    return [DueJob(*row) for row in rows]
