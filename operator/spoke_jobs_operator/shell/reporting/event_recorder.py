"""Send Kubernetes Events (events.k8s.io/v1) about SpokeJobs: best effort, rate-limited, and apart from all other calls.

An Event that exceeds the rate is dropped and counted. Nothing waits for an Event: neither a status write nor the
creation of a Job. The same Event about the same SpokeJob becomes a series: one object with a count.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from spoke_jobs.contract import names
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.shared.api_errors import ApiError, NotFound, TooManyRequests
from spoke_jobs.shared.token_bucket import TokenBucket
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.reporting.job_events import EventType, JobEvent
from spoke_jobs_operator.shell.api.operator_client import Client, NotLeading
from spoke_jobs_operator.shell.metrics.operator_metrics import EventDrop, OperatorMetrics

CONTROLLER = f"{names.GROUP}/operator"
"""The `reportingController` of the Events."""
_QUEUED = 1000
_REMEMBERED = 5000
_SERIES_SECONDS = 3600.0
"""How long a repetition counts as the same Event. API servers keep Events for an hour by default."""
_NAME_LIMIT = 220
_INSTANCE_LIMIT = 128
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class About:
    """The object that an Event is about."""

    key: Key
    uid: str
    kind: Kind = Kind.SPOKEJOB


class _Same(NamedTuple):
    """The fields in which the Events of one series are equal."""

    uid: str
    event: JobEvent


@dataclass(slots=True)
class _Sent:
    name: str
    at: float
    count: int = 1


class EventRecorder:
    """A bounded queue of Events, and the task that sends them.

    :param per_second: the average number of Events of each namespace and type per second; 0 sends none.
    :param at_once: the most of them at once after a quiet period.
    :param clock: the monotonic clock, in seconds.
    :param now: returns the current time.
    """

    def __init__(
        self,
        client: Client,
        metrics: OperatorMetrics,
        identity: str,
        *,
        per_second: float,
        at_once: float,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._identity = identity[:_INSTANCE_LIMIT]
        self._now = now
        self._clock = clock
        self._rates = EventRates(per_second, at_once, clock) if per_second else None
        self._queue: asyncio.Queue[tuple[About, JobEvent, datetime]] = asyncio.Queue(_QUEUED)
        self._sent: OrderedDict[_Same, _Sent] = OrderedDict()
        self._paused_until = float("-inf")
        self._fails = False

    async def flushed(self) -> None:
        """Wait until each queued Event is sent or dropped."""
        await self._queue.join()

    def record(self, about: About, events: tuple[JobEvent, ...]) -> None:
        """Queue Events; drop those beyond the rate. Never waits and never raises."""
        if self._rates is None:
            return
        for event in events:
            if known := self._sent.get(_Same(about.uid, event)):
                known.count += 1  # counted even if it is dropped below: the next one sent includes it
            if self._clock() < self._paused_until or not self._rates.take(about.key.namespace, event.type):
                self._metrics.events_dropped.labels(EventDrop.RATE).inc()
            elif self._queue.full():
                self._metrics.events_dropped.labels(EventDrop.QUEUE).inc()
            else:
                self._queue.put_nowait((about, event, self._now()))

    async def run(self) -> None:
        """Send until cancelled. If an Event cannot be sent, only that Event is lost."""
        while True:
            about, event, at = await self._queue.get()
            try:
                await self._send(about, event, at)
            except NotLeading:
                self._metrics.events_dropped.labels(EventDrop.FAILURE).inc()
            except ApiError as error:
                self._failed(about, error)
            except Exception:
                logger.exception("unexpected error; the Event is dropped", extra={"spokejob": str(about.key)})
                self._metrics.events_dropped.labels(EventDrop.FAILURE).inc()
            else:
                self._fails = False
                self._metrics.events_sent.labels(event.type.value).inc()
            finally:
                self._queue.task_done()

    async def _send(self, about: About, event: JobEvent, at: datetime) -> None:
        same = _Same(about.uid, event)
        known = self._sent.get(same)
        if known and self._clock() - known.at < _SERIES_SECONDS:
            known.at = self._clock()
            known.count = max(known.count, 2)  # this repetition may have been queued before the first one was sent
            series = {"count": known.count, "lastObservedTime": _micro_time(at)}
            try:
                await self._client.count_event(Key(about.key.namespace, known.name), series)
            except NotFound:  # it has expired, or somebody deleted it
                del self._sent[same]
            else:
                return
        name = f"{about.key.name[:_NAME_LIMIT].rstrip('-.')}.{uuid.uuid4().hex[:16]}"
        await self._client.create_event(about.key.namespace, self._body(name, about, event, at))
        self._sent[same] = _Sent(name, self._clock())
        self._sent.move_to_end(same)
        while len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)

    def _body(self, name: str, about: About, event: JobEvent, at: datetime) -> dict[str, Any]:
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": about.key.namespace},
            "eventTime": _micro_time(at),
            "reportingController": CONTROLLER,
            "reportingInstance": self._identity,
            "type": event.type.value,
            "reason": event.reason,
            "action": event.action,
            "note": event.note,
            "regarding": {
                "apiVersion": about.kind.api_version,
                "kind": about.kind.kind,
                "namespace": about.key.namespace,
                "name": about.key.name,
                "uid": about.uid,
            },
        }

    def _failed(self, about: About, error: ApiError) -> None:
        self._metrics.events_dropped.labels(EventDrop.FAILURE).inc()
        if isinstance(error, TooManyRequests):
            self._paused_until = self._clock() + (error.pause_seconds or 1.0)
        if not self._fails:  # log once, not for each Event
            logger.warning("could not send an Event: %s", error, extra={"spokejob": str(about.key)})
        self._fails = True


def _micro_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


ALL_NAMESPACES = 10
"""All namespaces together may send this many times the Events of one."""
_REMEMBERED_RATES = 1000
"""The most namespaces and types whose recent Events are remembered. The others count as quiet."""


class EventRates:
    """Token buckets for Events.

    :param per_second: the average number of Events of each namespace and type per second.
    :param at_once: the most of them at once after a quiet period.
    :param clock: the monotonic clock, in seconds.
    """

    def __init__(self, per_second: float, at_once: float, clock: Callable[[], float]) -> None:
        self._rate = (per_second, at_once, clock)
        # Normal Events of a burst of new jobs must not displace warnings.
        self._all = {kind: self._make(ALL_NAMESPACES) for kind in EventType}
        self._own: OrderedDict[tuple[str, EventType], TokenBucket] = OrderedDict()

    def take(self, namespace: str, kind: EventType) -> bool:
        """Whether an Event may be sent now; if so, it is counted."""
        own = self._bucket(namespace, kind)
        if not _take(own):
            return False
        if not _take(self._all[kind]):
            own.put_back()
            return False
        return True

    def _make(self, times: int) -> TokenBucket:
        per_second, at_once, clock = self._rate
        return TokenBucket(times * per_second, times * at_once, clock)

    def _bucket(self, namespace: str, kind: EventType) -> TokenBucket:
        key = (namespace, kind)
        bucket = self._own.get(key)
        if bucket is None:
            bucket = self._own[key] = self._make(1)
        self._own.move_to_end(key)
        if len(self._own) > _REMEMBERED_RATES:
            self._own.popitem(last=False)
        return bucket


def _take(bucket: TokenBucket) -> bool:
    if bucket.take() > 0:
        bucket.put_back()
        return False
    return True
