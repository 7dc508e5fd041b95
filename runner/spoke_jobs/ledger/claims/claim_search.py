"""Search for due jobs and claim them: in one statement, or in several for jobs that limits apply to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from spoke_jobs.ledger.claims import bulk, limited_claims, unlimited_jobs
from spoke_jobs.ledger.claims.claim_cursor import ClaimCursor
from spoke_jobs.ledger.claims.claim_repair import repair
from spoke_jobs.ledger.claims.claim_request import ClaimRequest, SearchedJobs
from spoke_jobs.ledger.claims.claim_route import UNKNOWN
from spoke_jobs.ledger.claims.claim_turns import LastTurns
from spoke_jobs.ledger.claims.turn_search import TurnSearch
from spoke_jobs.ledger.engine import is_locked
from spoke_jobs.ledger.limits_and_pauses import current_limits
from spoke_jobs.ledger.limits_and_pauses.limit_cache import KnownLimits, LimitCache
from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits
from spoke_jobs.limits.admission import LimitSet
from spoke_jobs.model import Claim

logger = logging.getLogger(__name__)

_TRIES = 5
_WITHOUT_QUEUE_LOCKS_SECONDS = 15.0
Connecting = Callable[[], AbstractContextManager[Connection]]


@dataclass(frozen=True, slots=True)
class Searched:
    """The result of a search for jobs to claim."""

    claims: list[Claim]
    candidates: int
    """How many jobs were examined."""
    began: float
    """When the search began, by the monotonic clock."""
    limited: bool = False
    """Whether several statements must claim the rest, because limits apply to it."""


class ClaimSearch:
    """Claims batches of jobs, and remembers what helps the next claim. Safe to share between threads.

    :param single: opens a connection for a single statement.
    :param reading: opens a connection for a query.
    """

    def __init__(self, engine: Engine, single: Connecting, reading: Connecting, limits: SqlLimits) -> None:
        self._engine = engine
        self._single = single
        self._reading = reading
        self._limits = limits
        self._cache = LimitCache()
        self._route = UNKNOWN
        self.cursors: dict[SearchedJobs, ClaimCursor] = {}
        """Of claims by one statement."""
        self._limited_cursors: dict[SearchedJobs, ClaimCursor] = {}
        self.turns: dict[SearchedJobs, TurnSearch] = {}
        self._last_turns = LastTurns()
        self._queue_locks_from = 0.0
        """Until then, by the monotonic clock, jobs that lock their queue are left."""
        self.rest_due: float | None = None
        """When to claim again, by the monotonic clock, because the last claim got less than it asked for and has not
        searched from the head; None if it has, or got all."""

    def claim_batch(self, request: ClaimRequest) -> list[Claim]:
        """Claim due jobs, by priority, then in turns among organizations, then by age.

        If a transaction has taken a queue's lock and is not committed, leave jobs that lock their queue for a while.
        """
        if time.monotonic() < self._queue_locks_from:
            return self._claim_in_order(request.without_queue_locks())
        try:
            return self._claim_in_order(request)
        except DBAPIError as error:
            if not is_locked(error):
                raise
            self._queue_locks_from = time.monotonic() + _WITHOUT_QUEUE_LOCKS_SECONDS
            logger.warning(
                "a transaction that is not committed has a queue's lock: for %g s, no jobs that lock their queue start",
                _WITHOUT_QUEUE_LOCKS_SECONDS,
            )
            return self._claim_in_order(request.without_queue_locks())

    def forget_places(self) -> None:
        """Search from the head next time, and look for organizations again."""
        self.cursors.clear()
        self._limited_cursors.clear()
        self.turns.clear()

    def _claim_in_order(self, request: ClaimRequest) -> list[Claim]:
        granted: list[Claim] = []
        self.rest_due = None
        lost, several = 0, False
        turns = self._turns_of(request)
        looked, by_turns = False, True
        while (left := request.limit - len(granted)) > 0 and lost < _TRIES:
            try:
                if not looked and turns.look_due():
                    looked = True
                    turns.look(request, self._last_turns, limited=self._limits.limited)
                wanted = request.search(left, turns.plan.next_jobs(left) if by_turns else ())
                found = self._search(wanted, several)
            except Exception:
                if not granted:
                    raise
                break  # nobody else knows of these claims; the next claim meets the error again
            granted += found.claims
            if found.limited:
                several = True
                continue
            if wanted.turns:
                left_some = found.candidates >= left or self._is_held()
                claimed = [claim.job.id for claim in found.claims]
                turns.plan = turns.plan.after_turns(wanted.turns, claimed, left_some=left_some)
                by_turns = bool(claimed) or not left_some  # otherwise the plan still begins with these
                continue
            # Some candidates got no claim, because another candidate locked their queue. Search for others instead.
            if len(found.claims) == found.candidates or found.candidates < left:
                turns.plan = turns.plan.after_others(backlog=len(granted) == request.limit or self._is_held())
                break
            lost += not found.claims  # other workers took all queue locks first
        if turns.plan.several:
            self._last_turns.take([claim.job.organization_id for claim in granted])
        return granted

    def _turns_of(self, request: ClaimRequest) -> TurnSearch:
        found = self.turns.get(request.jobs)
        return found or self.turns.setdefault(request.jobs, TurnSearch(self._reading, self._cache))

    def _is_held(self) -> bool:
        """Whether a limit holds jobs back, as far as is known."""
        return self._limits.limited and not self._route.closed.nothing

    def _search(self, request: ClaimRequest, several: bool) -> Searched:
        if request.turns:
            return self._search_turns(request, several)
        key = request.jobs
        began = time.monotonic()
        one = None if several else self._known_for_one(began)
        cursors = self._limited_cursors if self._limits.limited and one is None else self.cursors
        cursor = cursors.get(key, ClaimCursor())
        place = cursor.begin(began)
        searched = self._claim_or_repair(one, request.starting_at(place), began)
        now = time.monotonic()
        first = searched.claims[0].job if searched.claims else None
        found = (-first.priority, first.id) if first is not None else None
        if place is None:
            cursors[key] = cursor.after_head(now, now - searched.began, found)
        else:
            cursors[key] = cursor.after_place(now - searched.began, found)
            if found is None:
                return self._search(request, several)
            if searched.candidates < request.limit:
                self.rest_due = cursor.head_due
        return searched

    def _search_turns(self, request: ClaimRequest, several: bool) -> Searched:
        began = time.monotonic()
        searched = self._claim_or_repair(None if several else self._known_for_one(began), request, began)
        return replace(searched, claims=sorted(searched.claims, key=lambda claim: request.turns.index(claim.job.id)))

    def _claim_or_repair(self, one: KnownLimits | None, request: ClaimRequest, began: float) -> Searched:
        try:
            searched = self._claim_from(one, request)
        except (DataError, IntegrityError, OverflowError):  # because of one row
            with self._engine.begin() as connection:
                repair(connection, request.runner)
            searched = self._claim_from(one, request)
        return replace(searched, claims=[replace(claim, asked_at=began) for claim in searched.claims])

    def _known_for_one(self, now: float) -> KnownLimits | None:
        """Return the limits if there are some, and one statement may claim the jobs that none applies to."""
        if not self._limits.limited or self._engine.dialect.name != "postgresql":
            return None
        if self._cache.known.limits.of_all or not self._route.by_one_statement(now):
            return None
        if self._route.looks(now):
            self._look()
        known = self._cache.known  # once: another thread may read later ones, which apply to all jobs
        return known if known.rows and not known.limits.of_all else None

    def _look(self) -> None:
        """Read the limits, and of which scopes nothing may start now."""
        with self._reading() as connection:
            began = time.monotonic()  # does not include the time to connect
            closed = current_limits.closed_scopes(connection, self._cache)
        now = time.monotonic()
        self._route = self._route.after_look(now, now - began, closed)
        if self._cache.known.rows:  # otherwise the claim finds that there are none
            self._limits.note(self._cache.known.limits)
            self._limits.limited = True  # also if this release can't read them

    def _claim_from(self, one: KnownLimits | None, request: ClaimRequest) -> Searched:
        """Claim jobs.

        Whether there are limits is known from the last claim. A claim that finds it otherwise changes nothing.

        :param one: if given, claim the jobs that none of these limits applies to, by one statement.
        """
        if one is not None:
            return self._claim_unlimited(one, request)
        while True:
            limited = self._limits.limited
            with self._engine.begin() if limited else self._single() as connection:
                searching = time.monotonic()  # does not include the time to connect
                if limited:
                    under_limits = limited_claims.claim_batch(connection, self._cache, request)
                    if under_limits is not None:
                        self._limits.note(under_limits.limits, under_limits.next_token_seconds)
                        self._limits.limited = True  # also if this release can't read them
                        now = time.monotonic()
                        self._route = self._route.after_several(now, now - searching, under_limits.closed)
                        return Searched(under_limits.claims, under_limits.candidates, searching)
                elif (found := bulk.claim_batch(connection, request)) is not None:
                    return Searched(*found, searching)
            self._limits.note(LimitSet(()))
            self._limits.limited = not limited
            self.cursors.clear()

    def _claim_unlimited(self, known: KnownLimits, request: ClaimRequest) -> Searched:
        route = self._route
        with self._single() as connection:
            searching = time.monotonic()
            taken = unlimited_jobs.claim_unlimited(connection, known, route.closed, request)
        now = time.monotonic()
        self._route = route.after_one(now, now - searching, taken.candidates, taken.limited)
        self._limits.next_token_seconds = None
        # Jobs with limits may be among the rest: of those that were left, or of the scopes that were left out.
        more = bool(taken.limited) or (taken.candidates < request.limit and not route.closed.nothing)
        return Searched(taken.claims, taken.candidates, searching, more)
