"""Who may start, in memory: it lets :func:`~spoke_jobs_operator.core.admit.admit` decide, and remembers whom it chose.

No Lease can stop a request in flight, so the limits are kept by pacing; what must never overlap is kept apart by the
pods' claims in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable

from spoke_jobs_operator.core.actions import Standing
from spoke_jobs_operator.core.admit import Candidate, Limits, admit
from spoke_jobs_operator.core.model import Key


class Pacer:
    """The places under the limits.

    :param wake: is called for a SpokeJob that has just been admitted.
    """

    def __init__(self, limits: Limits, wake: Callable[[Key], None]) -> None:
        self._limits = limits
        self._wake = wake
        self._waiting: dict[Key, Candidate] = {}
        self._taken: set[Key] = set()  # has an attempt, or has been admitted and will have one in a moment

    def is_admitted(self, key: Key) -> bool:
        """Whether the SpokeJob may have its Job."""
        return self._limits.running is None or key in self._taken

    def settle(self, candidate: Candidate, standing: Standing) -> None:
        """Take note of how a SpokeJob stands, and admit whom that makes room for."""
        if self._limits.running is None:
            return
        key = candidate.key
        if standing is Standing.HOLDS:
            self._waiting.pop(key, None)
            self._taken.add(key)
            return
        self._taken.discard(key)
        if standing is Standing.WAITS:
            self._waiting[key] = candidate
        else:
            self._waiting.pop(key, None)
        self._admit()

    def forget(self, key: Key) -> None:
        """The SpokeJob is gone."""
        if key in self._taken or key in self._waiting:
            self._taken.discard(key)
            self._waiting.pop(key, None)
            self._admit()

    def _admit(self) -> None:
        for key in admit(self._waiting.values(), self._taken, self._limits):
            del self._waiting[key]
            self._taken.add(key)
            self._wake(key)
