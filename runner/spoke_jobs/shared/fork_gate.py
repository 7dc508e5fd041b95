"""Let a fork wait until background threads are out of the code of libraries.

A forked child inherits the locks that other threads hold, for example those of OpenSSL while it reads certificates, and
has no thread to release them.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet


class ForkGate:
    """A place that threads enter only while their process does not fork. A fork waits for those that are inside.

    :param seconds: the longest wait of a fork, before and after an import, and of a thread that waits for forks to end.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.importing = threading.RLock()
        """Held inside during an import. A fork waits for that without a bound: no child could finish the import."""
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._inside: Counter[int] = Counter()
        """By thread, how often it has entered."""
        self._forks = 0

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be inside. A fork that the thread itself makes there does not wait for it."""
        me = threading.get_ident()
        with (changed := self._changed):
            changed.wait_for(lambda: not self._forks or self._inside[me], self._seconds)
            self._inside[me] += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside[me] -= 1
                if not self._inside[me]:
                    del self._inside[me]
                self._changed.notify_all()

    def _before_fork(self) -> None:
        with self._changed:
            self._forks += 1
        self._wait_for_others()
        if self.importing.acquire(blocking=False):
            return
        # An import may take longer than the wait, and the library is first used right after it.
        self.importing.acquire()
        self.importing.release()
        self._wait_for_others()
        self.importing.acquire()

    def _wait_for_others(self) -> None:
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._inside.keys() - {me}, self._seconds)

    def _after_fork_in_parent(self) -> None:
        self.importing.release()
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()

    def _after_fork_in_child(self) -> None:
        self.importing.release()
        mine = self._inside[(me := threading.get_ident())]
        self._reset()
        if mine:
            self._inside[me] = mine


_all: WeakSet[ForkGate] = WeakSet()


def _before_fork() -> None:
    for gate in list(_all):
        gate._before_fork()


def _after_fork_in_parent() -> None:
    for gate in list(_all):
        gate._after_fork_in_parent()


def _after_fork_in_child() -> None:
    for gate in list(_all):
        gate._after_fork_in_child()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
