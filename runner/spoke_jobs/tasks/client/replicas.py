"""The replicas behind one host name: choose one for the next batch, and pause those that fail. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from spoke_jobs.shared.backoff import Backoff

BACKOFF_SECONDS = 0.1
SHORTENING = -0.5
"""The jitter of all the client's backoffs: a wait is shortened by up to a half."""
_LEAST_WINDOW = 10.0
_REGROWTH_PER_SECOND = 10.0
"""How fast a window grows with time alone. Acknowledgements enlarge it, too, but with long tasks they are rare."""


@dataclass(slots=True, eq=False)
class Replica:
    """One address of the host."""

    address: str
    in_flight: int = 0
    """Tasks sent to it and not acknowledged."""
    failures: int = 0
    """Consecutive failures."""
    paused_until: float = 0.0
    logged_at: float = float("-inf")
    """When a failure was last logged."""
    throttled_since: float | None = None
    """Since when the replica has answered 429 or 503 to everything."""
    window: float = 0.0
    """How many tasks may be in flight to it. An answer that it is full halves the window; acknowledgements and time
    enlarge it."""
    acknowledged_at: float = float("-inf")
    """When it last acknowledged a task."""
    grown_at: float = 0.0
    """When the window was last enlarged for the time passed."""


class Replicas:
    """All replicas.

    :param window: how many tasks may be in flight to one replica.
    :param random: returns numbers from 0 to 1, for jitter.
    """

    def __init__(self, window: int, backoff_max_seconds: float, random: Callable[[], float]) -> None:
        self._window = window
        self._backoff = Backoff(BACKOFF_SECONDS, backoff_max_seconds, jitter=SHORTENING)
        self._random = random
        self._replicas: dict[str, Replica] = {}

    def __len__(self) -> int:
        return len(self._replicas)

    def update(self, addresses: Iterable[str]) -> None:
        """Replace the addresses by those of the last look-up. Ignore an empty list, which is a resolver's fault."""
        found = list(dict.fromkeys(addresses))
        if not found:
            return
        for address in self._replicas.keys() - set(found):
            del self._replicas[address]
        for address in found:
            self._replicas.setdefault(address, Replica(address, window=self._window))

    def choose(self, now: float) -> Replica | None:
        """Return the available replica with the fewest tasks in flight; None if none is available."""
        free = self._free(now)
        if not free:
            return None
        least = min(replica.in_flight for replica in free)
        equals = [replica for replica in free if replica.in_flight == least]
        return equals[int(self._random() * len(equals)) % len(equals)]

    def available(self, now: float) -> int:
        """Return how many replicas can take tasks now."""
        return len(self._free(now))

    def next_free(self, now: float) -> float | None:
        """Return when the next replica becomes available by time alone; None if none does."""
        moments = [self._available_at(replica, now) for replica in self._replicas.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    def failed(self, replica: Replica, now: float) -> float:
        """Pause a replica for a time that doubles with each failure; return the seconds.

        Requests that fail during the pause are not counted: they failed with the same server.
        """
        if replica.paused_until > now:
            return replica.paused_until - now
        replica.failures += 1
        seconds = self._backoff.after(replica.failures, self._random())
        replica.paused_until = now + seconds
        return seconds

    def asked_to_wait(self, replica: Replica, seconds: float, now: float) -> None:
        """Pause a replica for as long as it asks, plus up to a quarter, so that senders do not return together."""
        replica.paused_until = max(replica.paused_until, now + seconds * (1 + self._random() / 4))

    def full(self, replica: Replica, seconds: float, now: float) -> None:
        """Pause a full replica for as long as it asks, and halve its window."""
        self._grow(replica, now)
        if replica.paused_until <= now:  # requests refused at the same time halve it once
            replica.window = max(_LEAST_WINDOW, replica.window / 2)
        self.asked_to_wait(replica, seconds, now)

    def answered(self, replica: Replica, acknowledged: int) -> None:
        """Record that a replica answers, and how many tasks it has acknowledged."""
        if replica.failures:
            replica.failures = 0
            replica.paused_until = 0.0
        replica.window = min(self._window, replica.window + acknowledged / replica.window)

    def _free(self, now: float) -> list[Replica]:
        for replica in self._replicas.values():
            self._grow(replica, now)
        return [
            replica
            for replica in self._replicas.values()
            if replica.paused_until <= now and replica.in_flight < replica.window
        ]

    def _grow(self, replica: Replica, now: float) -> None:
        if replica.window < self._window:
            grown = replica.window + (now - replica.grown_at) * _REGROWTH_PER_SECOND
            replica.window = min(self._window, grown)
        replica.grown_at = now

    def _available_at(self, replica: Replica, now: float) -> float | None:
        """Return when an unavailable replica becomes available by time alone; None for any other."""
        if replica.paused_until > now:
            return replica.paused_until
        if replica.in_flight < replica.window or replica.window >= self._window:
            return None
        return now + (replica.in_flight + 1 - replica.window) / _REGROWTH_PER_SECOND
