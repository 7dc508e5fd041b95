"""Choose the tasks of the next request. Only the delivery thread uses this module."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from spoke_jobs.model import SUSPECT_LOSSES
from spoke_jobs.tasks.client.buffer import Buffer, BufferedTask
from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions

_LEAST_BATCH = 8
"""If fewer tasks wait, they are not divided among replicas."""


class Batches:
    """Tasks in the order in which they are sent.

    Three kinds of tasks are sent in requests of their own: the tasks of a batch that was refused as a whole, to find
    the invalid one, tasks that were refused in front of the server, and suspects, which may kill replicas. One suspect
    is in flight at a time.

    :param wake: wakes the delivery loop, which then starts as many requests as it can.
    """

    def __init__(self, buffer: Buffer, options: DispatcherOptions, wake: Callable[[], None]) -> None:
        self._buffer = buffer
        self._options = options
        self.wake = wake
        self._loop = asyncio.get_running_loop()
        self._alone: list[BufferedTask] = []
        self._suspects: deque[BufferedTask] = deque()
        self._on_trial: BufferedTask | None = None

    def next(self, limit: int, replicas: int, *, polls: bool) -> list[BufferedTask]:
        """Take the next batch, in which no id occurs twice; empty if nothing waits.

        :param limit: how many tasks the chosen replica can take.
        :param replicas: how many replicas can take tasks now. Each gets a share of the waiting tasks.
        :param polls: see :meth:`Buffer.take`.
        """
        if self._alone:
            return [self._alone.pop()]
        if self._suspects and self._on_trial is None:
            self._on_trial = self._suspects.popleft()
            return [self._on_trial]
        _, waiting = self._buffer.counts()
        share = max(_LEAST_BATCH, -(-waiting // max(1, replicas)))
        limit = max(1, min(share, self._options.batch_size, limit))
        taken = self._buffer.take(limit, self._options.batch_bytes, polls=polls)
        batch = {item.task.id: item for item in taken}
        if len(batch) < len(taken):  # an id occurs twice: send the second task in a request of its own
            chosen = set(batch.values())
            self._alone.extend(item for item in taken if item not in chosen)
        return list(batch.values())

    def send_alone(self, tasks: list[BufferedTask]) -> None:
        """Send each of these tasks in a request of its own."""
        self._alone.extend(tasks)

    def send_alone_later(self, seconds: float, item: BufferedTask) -> None:
        """Send a task in a request of its own after ``seconds``."""
        self._loop.call_later(seconds, self._send_alone_now, item)

    def request_ended(self, batch: list[BufferedTask]) -> None:
        """End the trial of a suspect, if it was in this batch."""
        if self._on_trial in batch:
            self._on_trial = None

    def requeue(self, tasks: list[BufferedTask]) -> None:
        """Queue tasks again; suspects have a queue of their own."""
        self._suspects.extend(item for item in tasks if item.losses >= SUSPECT_LOSSES)
        self._buffer.requeue(item for item in tasks if item.losses < SUSPECT_LOSSES)
        if tasks:
            self.wake()

    def requeue_later(self, seconds: float, item: BufferedTask) -> None:
        """Queue a task again after ``seconds``."""
        self._loop.call_later(seconds, self.requeue, [item])

    def _send_alone_now(self, item: BufferedTask) -> None:
        self.send_alone([item])
        self.wake()
