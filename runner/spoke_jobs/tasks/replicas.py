"""The servers behind one host name, which of them gets the next batch, and how long one is left alone. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

BACKOFF_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class Replica:
    """One address."""

    address: str
    in_flight: int = 0
    """Tasks sent to it and not acknowledged."""
    failures: int = 0
    """In a row."""
    paused_until: float = 0.0
    gone: bool = False
    """The name no longer resolves to it."""


class Replicas:
    """See the module.

    :param random: a number from 0 to 1, for jitter.
    """

    def __init__(self, backoff_max_seconds: float, random: Callable[[], float]) -> None:
        self._backoff_max = backoff_max_seconds
        self._random = random
        self._replicas: dict[str, Replica] = {}

    def __len__(self) -> int:
        return len(self._replicas)

    def update(self, addresses: Iterable[str]) -> None:
        """What the name resolves to now. No address at all is taken for a fault of the resolver's."""
        found = list(dict.fromkeys(addresses))
        if not found:
            return
        for address in self._replicas.keys() - set(found):
            self._replicas.pop(address).gone = True
        for address in found:
            self._replicas.setdefault(address, Replica(address))

    def choose(self, now: float) -> Replica | None:
        """The least laden one that isn't left alone; None if there is none."""
        free = self._free(now)
        if not free:
            return None
        least = min(replica.in_flight for replica in free)
        equals = [replica for replica in free if replica.in_flight == least]
        return equals[int(self._random() * len(equals)) % len(equals)]

    def available(self, now: float) -> int:
        """How many could be chosen."""
        return len(self._free(now))

    def next_free(self) -> float | None:
        """When the first of them is to be tried again; None if there are none."""
        return min((replica.paused_until for replica in self._replicas.values()), default=None)

    def failed(self, replica: Replica, now: float) -> float:
        """Leave it alone for a time that doubles with each failure; returns the seconds.

        The many requests that break when one server dies are one failure.
        """
        if replica.paused_until > now:
            return replica.paused_until - now
        seconds = backoff(BACKOFF_SECONDS, replica.failures, self._backoff_max, self._random())
        replica.failures += 1
        replica.paused_until = now + seconds
        return seconds

    def asked_to_wait(self, replica: Replica, seconds: float, now: float) -> None:
        """Leave it alone as long as it asks for; a little longer, lest all senders return in one moment."""
        replica.paused_until = max(replica.paused_until, now + seconds * (1 + self._random() / 4))

    @staticmethod
    def answered(replica: Replica) -> None:
        """It serves."""
        replica.failures = 0
        replica.paused_until = 0.0

    def _free(self, now: float) -> list[Replica]:
        return [replica for replica in self._replicas.values() if replica.paused_until <= now]


def backoff(first: float, failures: int, maximum: float, random: float) -> float:
    """Seconds to wait after ``failures`` earlier failures: doubling up to ``maximum``, less up to a half at random."""
    return float(min(maximum, first * 2 ** min(failures, 30)) * (1 - random / 2))
