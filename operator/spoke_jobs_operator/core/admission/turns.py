"""The order of turns: namespaces take turns by weight, and organizations take turns within their namespace.

Turns among namespaces follow start-time fair queueing: a turn delays the namespace's next turn by the inverse of its
weight. A namespace that had nothing to start gets no extra turns later.
"""

from __future__ import annotations

from typing import NamedTuple

REMEMBERED = 10_000
"""How many namespaces and how many parties are remembered: the ones with the latest turns."""


_NO_TURN = (0.0, 0)


class Party(NamedTuple):
    """An organization of a namespace. Parties take turns; the jobs without an organization are one party."""

    namespace: str
    organization: int | None


class Turns:
    """The turns that were taken. An unknown namespace or party comes before all that had a turn."""

    def __init__(self) -> None:
        self._number = 0
        self._virtual = 0.0
        self._parties: dict[Party, int] = {}
        self._namespaces: dict[str, tuple[float, int]] = {}

    def copy(self) -> Turns:
        """Return a copy, to try an order out."""
        other = Turns()
        other._number, other._virtual = self._number, self._virtual
        other._parties, other._namespaces = dict(self._parties), dict(self._namespaces)
        return other

    def of_party(self, party: Party) -> int:
        """Return the number of the party's last turn."""
        return self._parties.get(party, 0)

    def of_namespace(self, namespace: str) -> tuple[float, int]:
        """Return when the namespace's next turn is due, as a virtual time, and the number of its last turn."""
        return self._namespaces.get(namespace, _NO_TURN)

    def take(self, party: Party, weight: int) -> None:
        """Record a turn."""
        self._number += 1
        namespace = party.namespace
        due, _ = self._namespaces.pop(namespace, _NO_TURN)
        self._virtual = start = max(self._virtual, due)
        self._namespaces[namespace] = (start + 1 / weight, self._number)
        self._parties.pop(party, None)
        self._parties[party] = self._number
        if len(self._parties) > REMEMBERED:
            del self._parties[next(iter(self._parties))]
        if len(self._namespaces) > REMEMBERED:
            del self._namespaces[next(iter(self._namespaces))]
