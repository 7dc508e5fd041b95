"""Bound the part of the event loop's time that connections without valid credentials can use.

Their work waits here in a queue for each peer. It runs in slices of about 2 ms. After each slice the loop is left to
others for twice the processor time that the slice took. So a flood takes at most a third of a processor, and a
connection that has shown valid credentials waits for one slice at most.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable

SLICE_SECONDS = 0.002
"""The processor time that a slice should take."""
REST = 2.0
"""How long the loop is left to others after a slice, as a multiple of the slice's processor time."""
_MOST = 16
"""The most pieces of work in one slice."""
_PASSES = 3
"""How many passes of the loop after a slice belong to it. What its work schedules runs in them."""

Work = Callable[[], object]
logger = logging.getLogger(__name__)


class LoopShare:
    """Runs work in slices. For one event loop.

    :param clock: the processor time of the loop's thread. It does not run while other threads or processes run.
    """

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._first: deque[Work] = deque()
        self._queues: OrderedDict[str, OrderedDict[int, Work]] = OrderedDict()
        """By peer, work by its number. The first peer is the next one."""
        self._numbers = itertools.count()
        self._active = False
        """Whether a slice is scheduled or runs, or the rest after one."""
        self._in_slice = False
        self._began = 0.0
        self._seconds = 0.0
        """The time that the slice has taken so far."""
        self._size = 1
        """How many pieces of work the next slice may take."""

    def run_first(self, work: Work) -> None:
        """Run ``work`` at the start of the next slice. It must be short, and bounded by itself."""
        self._first.append(work)
        self._activate()

    def run(self, peer: str, work: Work) -> int:
        """Run ``work`` once it is the peer's turn. Return its number, for :meth:`forget`."""
        queue = self._queues.get(peer)
        if queue is None:
            queue = self._queues[peer] = OrderedDict()
        number = next(self._numbers)
        queue[number] = work
        self._activate()
        return number

    def forget(self, peer: str, number: int) -> None:
        """Do not run work that still waits.

        Otherwise connections that end before their turn would add work faster than it is done, and it would take memory
        and turns without end.
        """
        queue = self._queues.get(peer)
        if queue is None:
            return
        queue.pop(number, None)
        if not queue:
            del self._queues[peer]

    @property
    def waiting(self) -> int:
        """How many pieces of work wait for their peer's turn."""
        return sum(map(len, self._queues.values()))

    async def take(self, peer: str) -> None:
        """Wait for a turn, unless the caller's time counts already, because it runs within a slice."""
        if self._in_slice:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def go_on() -> None:
            if not turn.done():
                turn.set_result(None)

        self.run(peer, go_on)
        await turn

    def is_used_up(self) -> bool:
        """Whether this slice has taken its time. Work that can stop early asks."""
        return self._seconds + self._clock() - self._began >= SLICE_SECONDS

    def _activate(self) -> None:
        if not self._active:
            self._active = True
            asyncio.get_running_loop().call_soon(self._slice)

    def _slice(self) -> None:
        self._active = bool(self._first or self._queues)
        if not self._active:
            return
        loop = asyncio.get_running_loop()
        # Callbacks run in the order in which they are scheduled. So all that the work schedules runs between these two,
        # and what that schedules runs between the next two.
        loop.call_soon(self._begin, 1)
        self._enter()
        for _ in range(len(self._first)):
            _do(self._first.popleft())
        done = 0
        while self._queues and done < self._size and not (done and self.is_used_up()):
            peer, queue = self._queues.popitem(last=False)
            _, work = queue.popitem(last=False)
            if queue:
                self._queues[peer] = queue  # behind the other peers
            _do(work)
            done += 1
        self._leave()
        loop.call_soon(self._end, 1)

    def _begin(self, number: int) -> None:
        if number < _PASSES:
            asyncio.get_running_loop().call_soon(self._begin, number + 1)
        self._enter()

    def _end(self, number: int) -> None:
        self._leave()
        loop = asyncio.get_running_loop()
        if number < _PASSES:
            loop.call_soon(self._end, number + 1)
            return
        self._size = max(1, self._size // 2) if self._seconds > SLICE_SECONDS else min(_MOST, self._size + 1)
        loop.call_later(self._seconds * REST, self._slice)
        self._seconds = 0.0

    def _enter(self) -> None:
        self._in_slice = True
        self._began = self._clock()

    def _leave(self) -> None:
        self._in_slice = False
        self._seconds += self._clock() - self._began


def _do(work: Work) -> None:
    try:
        work()
    except Exception:
        logger.exception("unexpected error on a connection without credentials")
