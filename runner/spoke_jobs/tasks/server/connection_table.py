"""Which connections are kept when there are too many. Pure.

A connection is *proven* once its request has shown valid credentials. Room for a new connection is made by closing one
that is not proven. So nobody without credentials can keep out those who have some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

REASONS = ("peer", "full", "displaced", "headers", "body", "write", "idle", "close", "tls", "unread")
"""Why the server closes a connection: a limit, the phase whose time is up, or ``unread`` (`bounded_protocol`)."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections are kept."""

    total: int = 2_000
    peer: int = 1_000
    """Of one address."""
    probes: int = 50
    """Connections beyond the total that may only GET, if all others are proven. Otherwise senders could block the
    kubelet's probes, and the kubelet would restart the replica."""


@dataclass(slots=True, eq=False)
class Slot:
    """The place of one connection."""

    peer: str
    only_get: bool = False
    close: Callable[[], None] = field(default=lambda: None)
    """Closes the connection at once."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What to do with a new connection."""

    slot: Slot | None
    """None if it is refused."""
    displaced: Slot | None = None
    """The connection to close for it."""
    refused: str = ""
    """The limit that refuses it: ``peer`` or ``full``."""


class ConnectionTable:
    """All connections, from their acceptance by the kernel to their end."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._peers: Counter[str] = Counter()
        self._unproven: dict[str, dict[Slot, None]] = {}
        """By peer, the oldest first."""
        self._probes: dict[Slot, None] = {}
        self._slots: set[Slot] = set()
        self.closed: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        """Connections that the server closed, by reason."""

    def open(self, peer: str) -> Admission:
        """Find a place for a new connection."""
        displaced: Slot | None = None
        only_get = False
        if self._peers[peer] >= self._limits.peer:
            displaced = next(iter(self._unproven.get(peer, ())), None)
            if displaced is None:
                return self._refused("peer")
        elif len(self._slots) >= self._limits.total:
            displaced = self._oldest_unproven()
            if displaced is None:
                only_get = True
                if len(self._probes) >= self._limits.probes:
                    displaced = next(iter(self._probes), None)
                    if displaced is None:
                        return self._refused("full")
        if displaced is not None:
            self.closed["displaced"] += 1
            self.remove(displaced)
        slot = Slot(peer, only_get)
        self._slots.add(slot)
        self._peers[peer] += 1
        if only_get:
            self._probes[slot] = None
        else:
            self._unproven.setdefault(peer, {})[slot] = None
        return Admission(slot, displaced)

    def prove(self, slot: Slot) -> None:
        """Note that the connection's request has shown valid credentials."""
        self._forget_unproven(slot)

    def remove(self, slot: Slot) -> bool:
        """Record a connection's end. Return whether it still had its place: False at a repeated call."""
        if slot not in self._slots:
            return False
        self._slots.discard(slot)
        self._probes.pop(slot, None)
        self._forget_unproven(slot)
        self._peers[slot.peer] -= 1
        if not self._peers[slot.peer]:
            del self._peers[slot.peer]
        return True

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def unproven(self) -> int:
        """How many connections have not shown valid credentials."""
        return len(self._probes) + sum(map(len, self._unproven.values()))

    def _refused(self, why: str) -> Admission:
        self.closed[why] += 1
        return Admission(None, refused=why)

    def _oldest_unproven(self) -> Slot | None:
        """Return the oldest one of the peer that has the most of them, because other peers are probably legitimate."""
        peer = max(self._unproven, key=lambda peer: len(self._unproven[peer]), default=None)
        return next(iter(self._unproven[peer])) if peer is not None else None

    def _forget_unproven(self, slot: Slot) -> None:
        of_peer = self._unproven.get(slot.peer)
        if of_peer is not None and slot in of_peer:
            del of_peer[slot]
            if not of_peer:
                del self._unproven[slot.peer]
