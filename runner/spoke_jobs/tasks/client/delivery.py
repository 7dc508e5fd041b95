"""The delivery loop: sends the buffer's tasks with many streamed requests in flight, on a thread of its own.

That thread imports this module, so that neither the application's start nor its first dispatch waits for the import of
the HTTP client.
"""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401  or else a connection would import it later, see `run`
import logging
import random
import threading
import time
from collections.abc import Callable
from urllib.parse import SplitResult

import anyio.lowlevel

from spoke_jobs.tasks.client.batches import Batches
from spoke_jobs.tasks.client.buffer import Buffer, BufferedTask, Tally
from spoke_jobs.tasks.client.credentials import Credentials
from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions
from spoke_jobs.tasks.client.replicas import Replica, Replicas
from spoke_jobs.tasks.client.sender import Sender
from spoke_jobs.tasks.client.transport import make_client
from spoke_jobs.tasks.client.trust import Trust

_POLL_SECONDS = 0.02
"""How long the loop polls after its last task. Waking it would cost a caller more than the rest of the call."""

logger = logging.getLogger(__name__)


class Delivery:
    """The loop. Any thread may call :meth:`wake`, :meth:`addresses`, :meth:`pause` and :meth:`stop`."""

    def __init__(
        self, url: SplitResult, credentials: Credentials, buffer: Buffer, tally: Tally, options: DispatcherOptions
    ) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._something_to_do = asyncio.Event()
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._polls_until = 0.0
        self._requests: set[asyncio.Task[None]] = set()
        jitter = random.Random().random  # noqa: S311  the module's own generator belongs to the application
        self._replicas = Replicas(options.replica_window, options.backoff_max_seconds, jitter)
        self._batches = Batches(buffer, options, self._something_to_do.set)
        trust = Trust(options.ca_file) if url.scheme == "https" else None
        self._client = make_client(options, trust)
        self._sender = Sender(
            url, credentials, trust, self._client, self._replicas, self._batches, buffer, tally, options, jitter
        )

    def wake(self) -> None:
        """Tell the loop that tasks wait."""
        self._call(self._something_to_do.set)

    def addresses(self, found: list[str]) -> None:
        """Replace the replicas' addresses by those to which the host's name resolves now."""

        def update() -> None:
            self._replicas.update(found)
            self._something_to_do.set()

        self._call(update)

    def pause(self, paused: threading.Event, resume: threading.Event, seconds: float) -> None:
        """Set ``paused`` and block the loop between two steps until ``resume`` is set, for at most ``seconds``."""

        def block() -> None:
            paused.set()
            resume.wait(seconds)

        self._call(block)

    def stop(self) -> None:
        """End the loop, and cancel requests in flight."""

        def stop() -> None:
            self._stopping = True
            self._something_to_do.set()

        self._call(stop)

    async def run(self, imported: threading.Event) -> None:
        """Deliver until stopped.

        :param imported: set once everything that a request imports is imported.
        """
        await anyio.lowlevel.checkpoint()  # imports the backend that the HTTP client uses on this loop
        imported.set()
        try:
            while not self._stopping:
                self._something_to_do.clear()
                self._start_requests()
                await self._something_to_do.wait()
                if self._requests:
                    await asyncio.sleep(self._options.linger_seconds)
        finally:
            for request in self._requests:
                request.cancel()
            await asyncio.gather(*self._requests, return_exceptions=True)
            await self._client.aclose()

    def _call(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed, because the dispatcher was closed
            logger.debug("the delivery has ended")

    def _start_requests(self) -> None:
        """Start as many requests as replicas, limits and waiting tasks allow."""
        while len(self._requests) < self._options.max_requests:
            now = time.monotonic()
            replica = self._replicas.choose(now)
            if replica is None:
                self._wake_at(self._replicas.next_free(now), now)
                return
            batch = self._next_batch(replica, now)
            if not batch:
                return
            replica.in_flight += len(batch)
            request = self._loop.create_task(self._sender.send(batch, replica))
            self._requests.add(request)
            request.add_done_callback(self._request_ended)

    def _next_batch(self, replica: Replica, now: float) -> list[BufferedTask]:
        polls = now < self._polls_until
        limit = int(replica.window) - replica.in_flight
        batch = self._batches.next(limit, self._replicas.available(now), polls=polls)
        if batch:
            self._polls_until = now + _POLL_SECONDS
        elif polls:
            self._wake_at(now + self._options.linger_seconds, now)
        return batch

    def _wake_at(self, when: float | None, now: float) -> None:
        """Wake the loop at this time. With None, the resolver or an acknowledgement wakes it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self._loop.call_later(max(0.001, when - now), self._something_to_do.set)

    def _request_ended(self, request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        self._something_to_do.set()
