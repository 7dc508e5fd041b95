"""A keyed work queue: a key is queued at most once, and handled by one worker at a time.

A key that is added while it is being handled is handled again afterwards, so that no change is lost. An error delays
only its own key, with exponential backoff. The keys are in groups that take turns, and no group takes all workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from spoke_jobs.shared.backoff import Backoff
from spoke_jobs_operator.core.process.fair_line import SharedWorkers

K = TypeVar("K", bound=Hashable)
BACKOFF = Backoff(base=0.2, maximum=60.0)


class WorkQueue(Generic[K]):
    """Keys to handle, now or later. Create and use it in one running event loop.

    :param handle: handles a key; an exception means a retry.
    :param workers: how many keys are handled at the same time.
    :param group: returns the group of a key: its namespace.
    :param backoff: the waits between retries.
    :param on_error: called for each exception, with the seconds until the retry.
    :param on_taken: called when a worker takes a key, with the seconds that the key has waited.
    """

    def __init__(
        self,
        handle: Callable[[K], Awaitable[None]],
        *,
        workers: int,
        group: Callable[[K], Hashable] = lambda _key: None,
        backoff: Backoff = BACKOFF,
        on_error: Callable[[K, Exception, float], None] | None = None,
        on_taken: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._handle = handle
        self._group = group
        self._backoff = backoff
        self._on_error = on_error
        self._on_taken = on_taken
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()  # a key was added, or a worker is free
        self._shared: SharedWorkers[K] = SharedWorkers(workers)
        self._waiting: dict[K, float] = {}  # the keys in `_shared`, and when they were added
        self._busy: set[K] = set()
        self._again: set[K] = set()  # keys that were added while they were busy
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        """Return how many keys wait for a worker now; keys that are due later are not counted."""
        return len(self._waiting)

    def add(self, key: K, *, first: bool = False) -> None:
        """Handle the key once it is its group's turn; with ``first`` usually before the group's keys without it."""
        self._cancel_timer(key)
        if key in self._busy:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = self._loop.time()
            self._shared.add(self._group(key), key, first=first)
            self._changed.set()

    def add_after(self, key: K, delay: float) -> None:
        """Handle the key after ``delay`` seconds, unless it is already due sooner."""
        due = self._loop.time() + delay
        planned = self._timers.get(key)
        if key in self._waiting or (planned and planned.when() <= due):
            return
        self._cancel_timer(key)
        self._timers[key] = self._loop.call_at(due, self.add, key)

    def forget(self, key: K) -> None:
        """Drop the timer and the failure count of a key that no longer exists."""
        self._cancel_timer(key)
        self._failures.pop(key, None)

    async def run(self) -> None:
        """Work until cancelled.

        At most one key is taken in each pass of the event loop. Handling a key may compute for milliseconds without an
        await. If all workers did so in the same pass, calls to the API server would exceed their timeouts, also the
        renewal of the Lease.
        """
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._changed.wait()
                self._changed.clear()
                while (taken := self._shared.take()) is not None:
                    group, key = taken
                    self._on_taken(self._loop.time() - self._waiting.pop(key))
                    self._busy.add(key)
                    tasks.create_task(self._work(group, key))
                    await asyncio.sleep(0)

    async def _work(self, group: Hashable, key: K) -> None:
        try:
            await self._handle(key)
        except Exception as error:
            self._retry(key, error)
        else:
            self._failures.pop(key, None)
        finally:
            self._shared.done(group)
            self._changed.set()
            self._busy.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    def _retry(self, key: K, error: Exception) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._again.discard(key)  # the retry handles this change too
        delay = self._backoff.after(failures)
        self.add_after(key, delay)
        if self._on_error:
            self._on_error(key, error, delay)

    def _cancel_timer(self, key: K) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
