"""One request: send a batch, read its acknowledgements as they arrive, and decide what follows for each task.

A task leaves the buffer when it is done or has failed for good. Otherwise it is sent again: as the next attempt if it
failed, as the same attempt if it was returned or refused, or its replica died.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import SplitResult

import httpx

from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.model import SUSPECT_LOSSES
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs.tasks.client import foreign_answers
from spoke_jobs.tasks.client.batches import Batches
from spoke_jobs.tasks.client.buffer import Buffer, BufferedTask, Tally
from spoke_jobs.tasks.client.credentials import Credentials
from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions
from spoke_jobs.tasks.client.replicas import SHORTENING, Replica, Replicas
from spoke_jobs.tasks.client.transport import address_url, retry_after
from spoke_jobs.tasks.client.trust import Trust
from spoke_jobs.tasks.protocol.messages import (
    NDJSON,
    Acknowledgement,
    AnswerLines,
    BadAnswer,
    TaskOutcome,
    parse_acknowledgement,
    task_line,
)

_CONTENT_REFUSED = frozenset({400, 413, 415, 422})
"""Statuses of a request that would be refused again."""
_REFUSAL = "text/plain"
"""The content type of a task server's refusals. Proxies, and servers of something else, mostly answer otherwise."""
_RETRY_LATER = frozenset({429, 503})
_READ_SECONDS = 2.0
"""How long the text of a refusal may take."""
_FULL_WAIT_SECONDS = 0.1
"""The pause of a replica that accepted only a part of a batch."""
_STOPPING_WAIT_SECONDS = 1.0
"""The pause of a replica that returned tasks because it is stopping."""
_WRONG_URL = "SPOKE_TASKS_URL must name a task deployment"
_LOG_EVERY_SECONDS = 10.0
_THROTTLED_SECONDS = 10.0
"""A replica is logged if it has answered only 429 or 503 for this long."""

logger = logging.getLogger(__name__)


class Sender:
    """Sends batches. Belongs to the delivery loop."""

    def __init__(
        self,
        url: SplitResult,
        credentials: Credentials,
        trust: Trust | None,
        client: httpx.AsyncClient,
        replicas: Replicas,
        batches: Batches,
        buffer: Buffer,
        tally: Tally,
        options: DispatcherOptions,
        jitter: Callable[[], float],
    ) -> None:
        self._url = url
        self._credentials = credentials
        self._trust = trust
        self._client = client
        self._replicas = replicas
        self._batches = batches
        self._buffer = buffer
        self._tally = tally
        self._losses = options.losses
        self._backoff = Backoff(options.retry_seconds, options.retry_max_seconds, jitter=SHORTENING)
        self._jitter = jitter
        self._headers = {"Content-Type": NDJSON, "Host": url.netloc}

    async def send(self, batch: list[BufferedTask], replica: Replica) -> None:
        """Send a batch to a replica. Whatever happens, each task is then removed from the buffer or waits again."""
        unanswered = {item.task.id: item for item in batch}
        accepted = False
        for item in batch:
            self._tally.redelivered += item.deliveries > 0
            item.deliveries += 1
        try:
            if self._trust is not None:
                self._trust.refresh()
            now = time.monotonic()
            body = b"".join([task_line(item.task, now - item.since) for item in batch])
            async with self._client.stream(
                "POST",
                address_url(self._url, replica.address),
                content=body,
                headers=self._headers | {"Authorization": self._credentials.show()},
                extensions={"sni_hostname": self._url.hostname},
            ) as response:
                accepted = response.status_code == httpx.codes.OK and _content_type(response) == NDJSON
                if accepted:
                    replica.throttled_since = None
                    await self._read(response, replica, unanswered)
                elif _is_foreign_refusal(response):
                    await self._refused_in_front(response, replica, unanswered)
                else:
                    self._refused(response, replica, unanswered)
        except BadAnswer as error:  # nothing has died: something else answers at the address
            accepted = False
            self._failed(replica, f"{error}; {_WRONG_URL}")
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            self._failed(replica, f"{type(error).__name__} {error}".strip())
        except asyncio.CancelledError:  # the delivery stops: no replica died
            accepted = False
            raise
        except Exception as error:
            logger.exception("unexpected error; delivering to %s failed", replica.address)
            self._failed(replica, type(error).__name__)
        finally:
            replica.in_flight -= len(unanswered)
            self._batches.request_ended(batch)
            left = list(unanswered.values())
            self._batches.requeue([item for item in left if not (accepted and self._handle_loss(item, replica))])

    def _handle_loss(self, item: BufferedTask, replica: Replica) -> bool:
        """Count the death of a task's replica. Return False if the task is to be sent again at once."""
        item.losses += 1
        if item.losses < SUSPECT_LOSSES:
            return False
        if item.losses < self._losses:
            seconds = self._backoff.after(item.losses - SUSPECT_LOSSES + 1, self._jitter())
            self._batches.requeue_later(seconds, item)
            return True
        self._fail(
            item,
            f"{TaskCause.WORKER_LOST}, {item.losses} replicas died while they had it, the last at {replica.address}",
        )
        return True

    async def _read(self, response: httpx.Response, replica: Replica, unanswered: dict[str, BufferedTask]) -> None:
        lines = AnswerLines()
        expected, strange = len(unanswered), 0
        async for chunk in response.aiter_raw():
            acks = [ack for line in lines.feed(chunk) if (ack := parse_acknowledgement(line)) is not None]
            self._replicas.answered(replica, len(acks))
            if acks:
                replica.acknowledged_at = time.monotonic()
            done: list[BufferedTask] = []
            for ack in acks:
                item = unanswered.pop(ack.id or "", None)
                if item is None:
                    strange += 1
                    if strange > expected:
                        break
                    logger.warning("%s acknowledged a task that was not sent to it: %s", replica.address, ack.detail)
                    continue
                replica.in_flight -= 1
                if ack.outcome is TaskOutcome.DONE:
                    done.append(item)
                else:
                    self._not_done(item, ack, replica)
            if done:
                self._tally.delivered += len(done)
                self._buffer.remove(done)
            if acks:
                self._batches.wake()  # the replica has room again
            if strange > expected:  # one that never ends would fill the log
                raise BadAnswer("the answer acknowledges more tasks than were sent")
        if unanswered:
            raise httpx.RemoteProtocolError(f"the answer ended, and {len(unanswered)} acknowledgements are missing")

    def _not_done(self, item: BufferedTask, ack: Acknowledgement, replica: Replica) -> None:
        task, why = item.task, f"{ack.cause} {ack.detail}".strip()
        item.refusals = None
        if ack.outcome is TaskOutcome.FAILED_FOR_GOOD:
            self._fail(item, f"{why} (attempt {task.attempt})")
        elif ack.outcome is TaskOutcome.FAILED:
            fields = {"task_id": task.id, "task": task.name, "attempt": task.attempt, "cause": ack.cause}
            logger.warning("task %s (%s), attempt %d failed: %s", task.id, task.name, task.attempt, why, extra=fields)
            seconds = self._backoff.after(task.attempt, self._jitter())
            if ack.retry_seconds is not None:  # by the task's own options
                seconds = ack.retry_seconds * (1 + self._jitter() / 4)
            item.next_attempt()
            self._batches.requeue_later(seconds, item)
        else:
            now = time.monotonic()
            if ack.cause == TaskCause.FULL:
                self._replicas.full(replica, _FULL_WAIT_SECONDS, now)
            else:
                self._replicas.asked_to_wait(replica, _STOPPING_WAIT_SECONDS, now)
            self._batches.requeue([item])

    def _fail(self, item: BufferedTask, why: str) -> None:
        self._tally.failed += 1
        fields = {"task_id": item.task.id, "task": item.task.name, "attempt": item.task.attempt}
        logger.error("task %s (%s) failed for good: %s", item.task.id, item.task.name, why, extra=fields)
        self._buffer.remove([item])

    def _refused(self, response: httpx.Response, replica: Replica, unanswered: dict[str, BufferedTask]) -> None:
        """Handle an answer other than acknowledgements: no task of the batch was accepted."""
        status = response.status_code
        if status in _CONTENT_REFUSED:
            self._content_refused(status, replica, unanswered)
        elif status in _RETRY_LATER and (seconds := retry_after(response)) is not None:
            now = time.monotonic()
            self._throttled(status, replica, now)
            wait = self._replicas.full if status == httpx.codes.TOO_MANY_REQUESTS else self._replicas.asked_to_wait
            wait(replica, seconds, now)
        elif status in (401, 403):
            self._failed(replica, f"{status}: {self._credentials.refused()}")
        else:
            kind = f" with {_content_type(response)[:50]!r}" if status == httpx.codes.OK else ""
            self._failed(replica, f"it answers {status}{kind}; {_WRONG_URL}")

    async def _refused_in_front(
        self, response: httpx.Response, replica: Replica, unanswered: dict[str, BufferedTask]
    ) -> None:
        """Handle a refusal that is no task server's: of this task, or of everything."""
        status = response.status_code
        if len(unanswered) > 1:
            self._content_refused(status, replica, unanswered)
            return
        answer = foreign_answers.refusal_text(status, await _beginning(response))
        (item,) = unanswered.values()
        now = time.monotonic()
        seen = foreign_answers.refused_again(item.refusals, now, item.since, replica.acknowledged_at, self._losses)
        item.refusals = seen.refusals
        if not (seen.counted or seen.for_good):
            why = self._credentials.refused() if status == httpx.codes.FORBIDDEN else _WRONG_URL
            self._failed(replica, f"it answers {answer}; {why}")
            return
        replica.in_flight -= 1
        unanswered.clear()
        if seen.for_good:
            self._fail(item, foreign_answers.failure_text(seen.refusals, answer))
            return
        fields = {"task_id": item.task.id, "task": item.task.name, "cause": TaskCause.REFUSED_BY_PROXY.value}
        logger.warning(
            "task %s (%s): something in front of %s refused it with %s; sending it again",
            item.task.id,
            item.task.name,
            replica.address,
            answer,
            extra=fields,
        )
        self._batches.send_alone_later(self._backoff.after(seen.refusals.count, self._jitter()), item)

    def _content_refused(self, status: int, replica: Replica, unanswered: dict[str, BufferedTask]) -> None:
        batch = list(unanswered.values())
        replica.in_flight -= len(batch)
        unanswered.clear()
        if len(batch) > 1:
            self._batches.send_alone(batch)
        else:
            self._fail(batch[0], f"the server refuses it with {status}")

    def _throttled(self, status: int, replica: Replica, now: float) -> None:
        # Nothing was sent to an idle replica, so nobody knows whether it had room meanwhile.
        idle = now - replica.paused_until > _THROTTLED_SECONDS
        if replica.throttled_since is None or idle:
            replica.throttled_since = now
        elif (seconds := now - replica.throttled_since) >= _THROTTLED_SECONDS:
            self._log(replica, now, f"it has refused all tasks for {seconds:.0f} s, now with {status}")

    def _failed(self, replica: Replica, why: str) -> None:
        now = time.monotonic()
        self._replicas.failed(replica, now)
        self._log(replica, now, why)

    def _log(self, replica: Replica, now: float, why: str) -> None:
        """Log a replica's failure, at most every ten seconds."""
        if now - replica.logged_at < _LOG_EVERY_SECONDS:
            return
        replica.logged_at = now
        kept, _ = self._buffer.counts()
        logger.error(
            "task server %s (%s): %s; retrying in %.1f s, %d tasks are kept until then",
            replica.address,
            self._url.netloc,
            why,
            replica.paused_until - now,
            kept,
        )


def _is_foreign_refusal(response: httpx.Response) -> bool:
    return response.status_code in foreign_answers.REFUSED and _content_type(response) != _REFUSAL


async def _beginning(response: httpx.Response) -> bytes:
    """Return the first bytes of an answer, if they come soon and can be read as they are."""
    found = b""
    if response.headers.get("content-encoding", "identity") != "identity":
        return found
    with suppress(TimeoutError, httpx.HTTPError, httpx.StreamError):
        async with asyncio.timeout(_READ_SECONDS):
            async for chunk in response.aiter_raw():
                found += chunk
                if len(found) >= foreign_answers.READ_BYTES:
                    break
    return found[: foreign_answers.READ_BYTES]


def _content_type(response: httpx.Response) -> str:
    given: str = response.headers.get("content-type", "")
    return given.partition(";")[0].strip().lower()
