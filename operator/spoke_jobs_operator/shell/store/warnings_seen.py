"""Remember the newest warning Event of each Job and pod, within a bound for each namespace.

The Event about a pull Secret is remembered beside the newest other one: it repeats with each try, whatever else keeps
the pod from starting.

The API server sends the Events of all Jobs and pods, also of those that are none of this operator's or do not exist,
and anybody may create Events. So the bound is one of memory. One namespace with many or large Events must not push out
those of the others. Events about unknown objects have a smaller memory of their own: an Event may come before its pod.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import NamedTuple

from spoke_jobs_operator.core.objects.api_objects import Meta, WarningEvent
from spoke_jobs_operator.core.objects.read_objects import PULL_SECRET_WARNING

_BESIDE_TEXTS = 1_000
"""The bytes that an Event takes beside its own texts."""


class Bytes(NamedTuple):
    """The most bytes of Events that are remembered."""

    in_namespace: int
    in_all: int
    """Beyond that, the namespace with the most bytes loses its oldest Event."""


KNOWN = Bytes(in_namespace=4_000_000, in_all=30_000_000)
UNKNOWN = Bytes(in_namespace=500_000, in_all=5_000_000)
"""The bound for Events about objects that are not known."""


class _Slot(NamedTuple):
    event: WarningEvent
    size: int


class _Memory:
    """The newest Events by the uid of the object that they are about, for each namespace."""

    def __init__(self, most: Bytes) -> None:
        self._most = most
        self._events: dict[str, OrderedDict[str, _Slot]] = {}
        self._sizes: dict[str, int] = {}
        self._size = 0

    def __len__(self) -> int:
        return sum(map(len, self._events.values()))

    def get(self, namespace: str, name: str) -> WarningEvent | None:
        """Return the Event of a slot."""
        found = self._events.get(namespace)
        return found[name].event if found is not None and name in found else None

    def put(self, namespace: str, name: str, event: WarningEvent) -> None:
        """Replace the Event of a slot. The oldest ones are dropped to make room."""
        self.pop(namespace, name)
        slot = _Slot(event, _size_of(event))
        self._events.setdefault(namespace, OrderedDict())[name] = slot
        self._count(namespace, slot.size)
        while self._sizes.get(namespace, 0) > self._most.in_namespace:
            self._drop_oldest(namespace)
        while self._size > self._most.in_all:
            self._drop_oldest(max(self._sizes, key=lambda item: self._sizes[item]))

    def pop(self, namespace: str, name: str) -> WarningEvent | None:
        """Forget the Event of a slot, and return it."""
        found = self._events.get(namespace)
        if found is None or (slot := found.pop(name, None)) is None:
            return None
        self._count(namespace, -slot.size)
        return slot.event

    def _drop_oldest(self, namespace: str) -> None:
        self.pop(namespace, next(iter(self._events[namespace])))

    def _count(self, namespace: str, by: int) -> None:
        self._size += by
        self._sizes[namespace] = self._sizes.get(namespace, 0) + by
        if not self._events[namespace]:
            del self._events[namespace], self._sizes[namespace]


class WarningsSeen:
    """The newest Events of known objects, and of those that may become known."""

    def __init__(self, known: Bytes = KNOWN, unknown: Bytes = UNKNOWN) -> None:
        self._known = _Memory(known)
        self._unknown = _Memory(unknown)

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)

    def about(self, item: Meta) -> tuple[WarningEvent, ...]:
        """Return the newest Event about an object, and the one about its pull Secret."""
        found = (self._known.get(item.key.namespace, slot) for slot in _slots(item.uid))
        return tuple(event for event in found if event is not None)

    def put(self, event: WarningEvent, *, known: bool) -> bool:
        """Remember an Event. Return False if a newer one about the same object is known.

        :param known: whether the object that it is about is known.
        """
        namespace = event.meta.key.namespace
        of_any, of_pull_secret = _slots(event.about)
        slot = of_pull_secret if event.reason == PULL_SECRET_WARNING else of_any
        memory = self._known if known else self._unknown
        old = memory.get(namespace, slot)
        if old is not None and old.meta.resource_version >= event.meta.resource_version:
            return False
        memory.put(namespace, slot, event)
        return True

    def appeared(self, item: Meta) -> None:
        """Move the Events about an object that is known now."""
        for slot in _slots(item.uid):
            if (event := self._unknown.pop(item.key.namespace, slot)) is not None:
                self.put(event, known=True)

    def forget(self, item: Meta) -> None:
        """Forget the Events about an object that is deleted."""
        for slot in _slots(item.uid):
            self._known.pop(item.key.namespace, slot)
            self._unknown.pop(item.key.namespace, slot)


def _size_of(event: WarningEvent) -> int:
    texts = (event.message, event.about, event.meta.key.name, event.meta.uid, event.key.name, event.container)
    return _BESIDE_TEXTS + sum(map(sys.getsizeof, texts))


def _slots(uid: str) -> tuple[str, str]:
    """Return the keys of an object's newest Event, and of its newest Event about a pull Secret."""
    return uid, f"{uid}/{PULL_SECRET_WARNING}"
