"""Count in memory which SpokeJobs have a place under the limits; :mod:`spoke_jobs_operator.core.admit` decides.

A Lease can't stop a request that is on its way, so the limits may be exceeded briefly when the leader changes. The
pods' claims in the ledger guarantee exclusion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs_operator.core.actions import Standing
from spoke_jobs_operator.core.admit import Candidate, Limits, Party, Usage, admit, in_order, is_full, why_held
from spoke_jobs_operator.core.api_objects import Key

UNDECIDED = Wait("")
"""The next admission follows within milliseconds: not worth a status write."""
_REMEMBERED_PARTIES = 10_000


class Pacer:
    """The places under the limits.

    Checking all waiting SpokeJobs is costly when thousands wait. So a new SpokeJob is checked alone if no place was
    released since the last admission: no other SpokeJob can then be admitted before it.

    :param wake: called for each admitted SpokeJob.
    :param defer: delays an admission, so that it covers all places that are released at about the same time.
    """

    def __init__(
        self, limits: Limits, wake: Callable[[Key], None], defer: Callable[[Callable[[], None]], object] | None = None
    ) -> None:
        self.limits = limits
        self.usage = Usage()
        self._wake = wake
        self._defer = defer
        self._waiting: dict[Key, Candidate] = {}
        self._taken: dict[Key, Candidate] = {}  # has an attempt, or is admitted and will get one
        self._served: dict[Party, int] = {}
        self._turn = 0
        self._admission_is_due = False

    def held(self, candidate: Candidate) -> Wait | None:
        """Return why a SpokeJob gets no Job now; None if it has a place."""
        if candidate.key in self._taken:
            return None
        return why_held(candidate, self.usage, self.limits) or UNDECIDED

    def reset(self) -> None:
        """Forget all places and waiting SpokeJobs: another leader may have changed them."""
        self._waiting.clear()
        self._taken.clear()
        self.usage = Usage()

    def prime(self, running: Iterable[Candidate], waiting: Iterable[Candidate]) -> None:
        """Add all SpokeJobs at once, so that the order of turns does not depend on the order of calls."""
        for candidate in running:
            self._take(candidate)
        for candidate in waiting:
            if candidate.key not in self._taken:
                self._waiting[candidate.key] = candidate
        self._admit_waiting()

    def settle(self, candidate: Candidate, standing: Standing) -> None:
        """Record a SpokeJob's standing, and admit SpokeJobs if this releases a place."""
        key = candidate.key
        if standing is Standing.HOLDS:
            self._take(candidate)
        elif standing is not Standing.WAITS:
            self.forget(key)
        elif key not in self._taken and key not in self._waiting:
            self._waiting[key] = candidate
            if not self._admission_is_due and why_held(candidate, self.usage, self.limits) is None:
                self._admit(candidate)

    def forget(self, key: Key) -> None:
        """Remove a SpokeJob that is deleted or wants no attempt."""
        self._waiting.pop(key, None)
        if key in self._taken:
            self._release(key)

    def order(self, most: int) -> tuple[Candidate, ...]:
        """Return the first ``most`` waiting SpokeJobs, in the order of their turns."""
        return in_order(self._waiting.values(), self.usage, self._served, most)

    def has_place(self, key: Key) -> bool:
        """Whether the SpokeJob has an attempt or is admitted."""
        return key in self._taken

    def __len__(self) -> int:
        """Return how many SpokeJobs wait."""
        return len(self._waiting)

    def _take(self, candidate: Candidate) -> None:
        self._waiting.pop(candidate.key, None)
        if candidate.key not in self._taken:
            self._taken[candidate.key] = candidate
            self.usage.add(candidate)

    def _admit(self, candidate: Candidate) -> None:
        self._take(candidate)
        self._take_turn(candidate.party)
        self._wake(candidate.key)

    def _take_turn(self, party: Party) -> None:
        self._turn += 1
        self._served.pop(party, None)
        self._served[party] = self._turn
        while len(self._served) > _REMEMBERED_PARTIES:
            del self._served[next(iter(self._served))]

    def _release(self, key: Key) -> None:
        self.usage.remove(self._taken.pop(key))
        if not self._waiting or self._admission_is_due:
            return
        if self._defer is None:
            self._admit_waiting()
        else:
            self._admission_is_due = True
            self._defer(self._admit_waiting)

    def _admit_waiting(self) -> None:
        self._admission_is_due = False
        if is_full(self.usage, self.limits):
            return
        for candidate in admit(list(self._waiting.values()), self.usage, self.limits, self._served):
            del self._waiting[candidate.key]
            self._taken[candidate.key] = candidate  # admit has counted it
            self._take_turn(candidate.party)
            self._wake(candidate.key)
