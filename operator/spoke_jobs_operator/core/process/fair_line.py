"""Items that wait in groups, taken in turns of the groups. For the operator a group is a namespace.

However many items one group adds, an item of another group waits only for its own group and for one turn of each other
group.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
_URGENT_IN_A_ROW = 3


class _Group(Generic[T]):
    """The items of one group. At least every fourth item that is taken is a usual one.

    Urgent items may wait for a place that only the handling of a usual item releases.
    """

    def __init__(self) -> None:
        self.urgent: deque[T] = deque()
        self.usual: deque[T] = deque()
        self._urgent_in_a_row = 0

    def take(self) -> T:
        if self.urgent and (self._urgent_in_a_row < _URGENT_IN_A_ROW or not self.usual):
            self._urgent_in_a_row += 1
            return self.urgent.popleft()
        self._urgent_in_a_row = 0
        return self.usual.popleft()


class FairLine(Generic[T]):
    """Items in groups that take turns. A group that had nothing waiting joins behind the others."""

    def __init__(self) -> None:
        self._groups: OrderedDict[Hashable, _Group[T]] = OrderedDict()  # those with items, the next turn first
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, group: Hashable, item: T, *, first: bool = False) -> None:
        """Add an item; with ``first`` it is usually taken before the group's items without it."""
        items = self._groups.setdefault(group, _Group())
        (items.urgent if first else items.usual).append(item)
        self._length += 1

    def take(self, may: Callable[[Hashable], bool] = lambda _group: True) -> tuple[Hashable, T] | None:
        """Take the next item and its group, among the groups for which ``may`` is true; None if there is none."""
        for group, items in self._groups.items():
            if may(group):
                item = items.take()
                self._length -= 1
                if items.urgent or items.usual:
                    self._groups.move_to_end(group)
                else:
                    del self._groups[group]
                return group, item
        return None


class SharedWorkers(Generic[T]):
    """Items for a number of workers, so that no group takes all workers.

    A group has at most three quarters of the workers. While another group waits that has less than a quarter, a group
    with a quarter gets no more.

    :param workers: how many items may be handled at a time.
    """

    def __init__(self, workers: int) -> None:
        self._share = max(1, workers // 4)
        self._most = max(1, workers - self._share)
        self._free = workers
        self._busy: Counter[Hashable] = Counter()
        self._line: FairLine[T] = FairLine()

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._line)

    def add(self, group: Hashable, item: T, *, first: bool = False) -> None:
        """Add an item; see :meth:`FairLine.add`."""
        self._line.add(group, item, first=first)

    def take(self) -> tuple[Hashable, T] | None:
        """Take the item that a worker handles next, and its group; None if no item may be handled now."""
        if not self._free:
            return None
        taken = self._line.take(lambda group: self._busy[group] < self._share)
        taken = taken or self._line.take(lambda group: self._busy[group] < self._most)
        if taken is not None:
            self._free -= 1
            self._busy[taken[0]] += 1
        return taken

    def done(self, group: Hashable) -> None:
        """Record that a worker has handled an item of the group."""
        self._free += 1
        self._busy[group] -= 1
        if not self._busy[group]:
            del self._busy[group]
