"""Delivering what a dispatcher holds: an event loop on a thread of its own, with many streamed requests in flight.

Imported by that thread, so that neither the application's start nor its first dispatch waits for the HTTP client.
"""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401  imported here lest connecting does, see `run`
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import SplitResult

import anyio.lowlevel
import httpx

from spoke_jobs.contract.backoff import Backoff
from spoke_jobs.contract.causes import TaskCause
from spoke_jobs.model import SUSPECT_LOSSES
from spoke_jobs.tasks.client.buffer import Buffer, BufferedTask, Tally
from spoke_jobs.tasks.client.credentials import Credentials
from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions
from spoke_jobs.tasks.client.replicas import SHORTENING, Replica, Replicas
from spoke_jobs.tasks.client.transport import address_url, make_client, retry_after
from spoke_jobs.tasks.protocol.encoding import BadAnswer, LineSplitter, parse_acknowledgement, task_line
from spoke_jobs.tasks.protocol.messages import NDJSON, Acknowledgement, TaskOutcome

_CONTENT_REFUSED = frozenset({400, 413, 415, 422})
"""What answers a request that no repetition mends."""
_ASKS_TO_WAIT = frozenset({429, 503})
_FULL_WAIT_SECONDS = 0.1
"""How long a replica that took only a part of a batch is left alone."""
_STOPPING_WAIT_SECONDS = 1.0
"""How long a replica that handed tasks back, because it is stopping, is left alone."""
_AWAKE_SECONDS = 0.02
"""How long after the last task it looks for others by itself: to wake it costs the caller more than all else."""
_LEAST_BATCH = 8
"""Fewer tasks than this aren't divided among replicas."""
_COMPLAIN_EVERY_SECONDS = 10.0
_PUT_OFF_SECONDS = 10.0
"""For how long a replica may ask us to wait before that is complained of."""

logger = logging.getLogger(__name__)


class Delivery:
    """See the module. Everything but :meth:`wake`, :meth:`addresses` and :meth:`stop` belongs to the loop's thread."""

    def __init__(
        self, url: SplitResult, credentials: Credentials, buffer: Buffer, tally: Tally, options: DispatcherOptions
    ) -> None:
        self._url = url
        self._buffer = buffer
        self._tally = tally
        self._options = options
        self._credentials = credentials
        self._headers = {"Content-Type": NDJSON, "Host": url.netloc}
        self._random = random.Random().random  # noqa: S311  jitter; the module's own belongs to the application
        self._backoff = Backoff(options.retry_seconds, options.retry_max_seconds, jitter=SHORTENING)
        self._replicas = Replicas(options.replica_window, options.backoff_max_seconds, self._random)
        self._requests: set[asyncio.Task[None]] = set()
        self._alone: list[BufferedTask] = []
        """Tasks of a batch that was refused as a whole: each is sent by itself, to find the one that is at fault."""
        self._suspects: deque[BufferedTask] = deque()
        self._on_trial: BufferedTask | None = None
        self._look = asyncio.Event()
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._awake_until = 0.0
        self._loop = asyncio.get_running_loop()
        self._client = make_client(url, options)

    def wake(self) -> None:
        """From any thread: there is something to look at."""
        self._call(self._look.set)

    def addresses(self, found: list[str]) -> None:
        """From any thread: what the host's name resolves to now."""

        def update() -> None:
            self._replicas.update(found)
            self._look.set()

        self._call(update)

    def rest(self, at_rest: threading.Event, go_on: threading.Event, seconds: float) -> None:
        """From any thread: stand still between two steps until ``go_on``, for so many seconds at most."""

        def stand_still() -> None:
            at_rest.set()
            go_on.wait(seconds)

        self._call(stand_still)

    def stop(self) -> None:
        """From any thread: end; requests in flight are broken off."""

        def stop() -> None:
            self._stopping = True
            self._look.set()

        self._call(stop)

    async def run(self, imported: threading.Event) -> None:
        """Deliver until stopped.

        :param imported: set once nothing is left that a first request would import.
        """
        await anyio.lowlevel.checkpoint()  # imports the backend that the HTTP client uses on this loop
        imported.set()
        try:
            while not self._stopping:
                self._look.clear()
                self._start_requests()
                await self._look.wait()
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
        except RuntimeError:  # the loop is closed: the dispatcher was, a moment ago
            logger.debug("the delivery has ended")

    def _start_requests(self) -> None:
        """Start as many requests as replicas, limits and waiting tasks allow."""
        while len(self._requests) < self._options.max_requests:
            now = time.monotonic()
            replica = self._replicas.choose(now)
            if replica is None:
                self._look_again_at(self._replicas.next_free(now), now)
                return
            batch = self._next_batch(replica, now)
            if not batch:
                return
            replica.in_flight += len(batch)
            request = self._loop.create_task(self._deliver(batch, replica))
            self._requests.add(request)
            request.add_done_callback(self._request_ended)

    def _next_batch(self, replica: Replica, now: float) -> list[BufferedTask]:
        if self._alone:
            return [self._alone.pop()]
        if self._suspects and self._on_trial is None:
            self._on_trial = self._suspects.popleft()
            return [self._on_trial]
        _, waiting = self._buffer.counts()
        share = max(_LEAST_BATCH, -(-waiting // max(1, self._replicas.available(now))))
        limit = min(share, self._options.batch_size, int(replica.window) - replica.in_flight)
        stays_awake = now < self._awake_until
        taken = self._buffer.take(max(1, limit), self._options.batch_bytes, stays_awake=stays_awake)
        if taken:
            self._awake_until = now + _AWAKE_SECONDS
        elif stays_awake:
            self._look_again_at(now + self._options.linger_seconds, now)
        batch = {held.task.id: held for held in taken}
        if len(batch) < len(taken):  # one id twice: the second goes with a request of its own
            chosen = set(batch.values())
            self._alone.extend(held for held in taken if held not in chosen)
        return list(batch.values())

    def _look_again_at(self, when: float | None, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:  # without any replica the resolver wakes us
            self._timer = self._loop.call_later(max(0.001, when - now), self._look.set)

    def _request_ended(self, request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        self._look.set()

    async def _deliver(self, batch: list[BufferedTask], replica: Replica) -> None:
        """One request: send the batch, take its acknowledgements as they come, keep what isn't acknowledged."""
        unanswered = {held.task.id: held for held in batch}
        accepted = False
        for held in batch:
            self._tally.redelivered += held.deliveries > 0
            held.deliveries += 1
        try:
            now = time.monotonic()
            body = b"".join([task_line(held.task, now - held.since) for held in batch])
            async with self._client.stream(
                "POST",
                address_url(self._url, replica.address),
                content=body,
                headers=self._headers | {"Authorization": self._credentials.show()},
                extensions={"sni_hostname": self._url.hostname},
            ) as response:
                accepted = response.status_code == httpx.codes.OK
                if accepted:
                    replica.put_off_since = None
                    await self._read(response, replica, unanswered)
                else:
                    self._refused(response, replica, unanswered)
        except (httpx.HTTPError, httpx.StreamError, BadAnswer, OSError) as error:
            self._failed(replica, f"{type(error).__name__} {error}".strip())
        except asyncio.CancelledError:  # nobody died
            accepted = False
            raise
        except Exception as error:
            logger.exception("delivering to %s failed in a way that nobody thought of", replica.address)
            self._failed(replica, type(error).__name__)
        finally:
            replica.in_flight -= len(unanswered)
            if self._on_trial in batch:
                self._on_trial = None
            left = [held for held in unanswered.values() if not (accepted and self._was_lost(held, replica))]
            self._keep(left)

    def _was_lost(self, held: BufferedTask, replica: Replica) -> bool:
        """Count that a replica died with this task; whether that is seen to, since it may be what kills them."""
        held.losses += 1
        if held.losses < SUSPECT_LOSSES:
            return False
        task = held.task
        if held.losses < self._options.losses:
            seconds = self._backoff.after(held.losses - SUSPECT_LOSSES + 1, self._random())
            self._loop.call_later(seconds, self._give_back, held)
            return True
        self._tally.failed += 1
        logger.error(
            "task %s (%s) failed for good: %s, it was in the hands of %d replicas that died, %s the last",
            *(task.id, task.name, TaskCause.WORKER_LOST, held.losses, replica.address),
        )
        self._buffer.let_go([held])
        return True

    async def _read(self, response: httpx.Response, replica: Replica, unanswered: dict[str, BufferedTask]) -> None:
        splitter = LineSplitter()
        async for chunk in response.aiter_raw():
            acks = [ack for line in splitter.feed(chunk) if (ack := parse_acknowledgement(line)) is not None]
            self._replicas.answered(replica, len(acks))
            ended: list[BufferedTask] = []
            for ack in acks:
                held = unanswered.pop(ack.id or "", None)
                if held is None:
                    logger.warning("%s acknowledged a task that it was not sent: %s", replica.address, ack.detail)
                    continue
                replica.in_flight -= 1
                if self._is_over(held, ack, replica):
                    ended.append(held)
            if ended:
                self._buffer.let_go(ended)
            if acks:
                self._look.set()
        if unanswered:
            raise BadAnswer(f"the answer ended {len(unanswered)} acknowledgements early")

    def _is_over(self, held: BufferedTask, ack: Acknowledgement, replica: Replica) -> bool:
        """Whether the task needs nothing more; if it does, that is seen to."""
        task = held.task
        if ack.outcome is TaskOutcome.DONE:
            self._tally.delivered += 1
            return True
        why = f"{ack.cause} {ack.detail}".strip()
        if ack.outcome is TaskOutcome.FAILED_FOR_GOOD:
            self._tally.failed += 1
            logger.error("task %s (%s) failed for good on attempt %d: %s", task.id, task.name, task.attempt, why)
            return True
        if ack.outcome is TaskOutcome.FAILED:
            logger.warning("task %s (%s) failed on attempt %d: %s", task.id, task.name, task.attempt, why)
            if ack.retry_seconds is not None:  # the task's own declaration says it better
                seconds = ack.retry_seconds * (1 + self._random() / 4)
            else:
                seconds = self._backoff.after(task.attempt, self._random())
            held.next_attempt()
            self._loop.call_later(seconds, self._give_back, held)
            return False
        self._returned(ack, replica)
        self._give_back(held)
        return False

    def _returned(self, ack: Acknowledgement, replica: Replica) -> None:
        now = time.monotonic()
        if ack.cause == TaskCause.FULL:
            self._replicas.full(replica, _FULL_WAIT_SECONDS, now)
        else:
            self._replicas.asked_to_wait(replica, _STOPPING_WAIT_SECONDS, now)

    def _give_back(self, held: BufferedTask) -> None:
        self._keep([held])
        self._look.set()

    def _keep(self, tasks: list[BufferedTask]) -> None:
        """Let tasks wait again; suspects don't travel with others."""
        self._suspects.extend(held for held in tasks if held.losses >= SUSPECT_LOSSES)
        self._buffer.give_back(held for held in tasks if held.losses < SUSPECT_LOSSES)

    def _refused(self, response: httpx.Response, replica: Replica, unanswered: dict[str, BufferedTask]) -> None:
        """An answer other than 200: none of the batch was accepted."""
        status = response.status_code
        if status in _CONTENT_REFUSED:
            self._content_refused(status, replica, unanswered)
        elif status in _ASKS_TO_WAIT and (seconds := retry_after(response)) is not None:
            wait = self._replicas.full if status == httpx.codes.TOO_MANY_REQUESTS else self._replicas.asked_to_wait
            self._put_off(status, replica, now := time.monotonic())
            wait(replica, seconds, now)
        elif status in (401, 403):
            self._failed(replica, f"{status}: {self._credentials.refused()}")
        else:
            self._failed(replica, f"it answers {status}; SPOKE_TASKS_URL must name a task deployment")

    def _content_refused(self, status: int, replica: Replica, unanswered: dict[str, BufferedTask]) -> None:
        batch = list(unanswered.values())
        replica.in_flight -= len(batch)
        unanswered.clear()
        if len(batch) > 1:
            self._alone.extend(batch)
            return
        (held,) = batch
        self._tally.failed += 1
        logger.error(
            "task %s (%s) failed for good: the server refuses it with %d", held.task.id, held.task.name, status
        )
        self._buffer.let_go([held])

    def _put_off(self, status: int, replica: Replica, now: float) -> None:
        idle = now - replica.paused_until > _PUT_OFF_SECONDS  # nothing was sent: it may have had room meanwhile
        if replica.put_off_since is None or idle:
            replica.put_off_since = now
        elif (seconds := now - replica.put_off_since) >= _PUT_OFF_SECONDS:
            self._complain(replica, now, f"it has asked us to wait for {seconds:.0f} s, now with {status}")

    def _failed(self, replica: Replica, what: str) -> None:
        now = time.monotonic()
        self._replicas.failed(replica, now)
        self._complain(replica, now, what)

    def _complain(self, replica: Replica, now: float, what: str) -> None:
        if now - replica.complained_at < _COMPLAIN_EVERY_SECONDS:
            return
        replica.complained_at = now
        held, _ = self._buffer.counts()
        logger.error(
            "task server %s (%s): %s. Tried again in %.1f s; %d tasks are kept until then",
            replica.address,
            self._url.netloc,
            what,
            replica.paused_until - now,
            held,
        )
