"""Create the parts of the operator, connect them, and run them."""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.shared import probe_server
from spoke_jobs.shared.api_errors import ApiError, Conflict
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.obstacles.holds import Holds
from spoke_jobs_operator.operator_settings import Settings
from spoke_jobs_operator.shell.admission.limit_keeper import LimitKeeper
from spoke_jobs_operator.shell.admission.pacing import Pacer
from spoke_jobs_operator.shell.api.call_rate import CallRate
from spoke_jobs_operator.shell.api.operator_client import Client, NotLeading
from spoke_jobs_operator.shell.metrics.operator_metrics import OperatorMetrics, Where
from spoke_jobs_operator.shell.reconciling.controller import Controller, utc_now
from spoke_jobs_operator.shell.reconciling.status_throttle import StatusThrottle
from spoke_jobs_operator.shell.reconciling.workqueue import WorkQueue
from spoke_jobs_operator.shell.reporting.event_recorder import EventRecorder
from spoke_jobs_operator.shell.reporting.limit_reporter import LimitReporter
from spoke_jobs_operator.shell.reporting.publishing import Publisher
from spoke_jobs_operator.shell.reporting.status_reports import log_fields
from spoke_jobs_operator.shell.standby.assignments import Assignments
from spoke_jobs_operator.shell.standby.pod_calls import PodCalls
from spoke_jobs_operator.shell.standby.standby_pods import StandbyPods, standby_key
from spoke_jobs_operator.shell.standby.standby_pools import StandbyPools
from spoke_jobs_operator.shell.store.store import Store
from spoke_jobs_operator.shell.watching.compare import Compare
from spoke_jobs_operator.shell.watching.limit_sources import LimitSources
from spoke_jobs_operator.shell.watching.streams import Streams

from . import operator_health
from .leadership import ByLease, Leadership

if TYPE_CHECKING:
    from spoke_jobs_operator.shell.reporting.span_recorder import SpanRecorder

TICK_SECONDS = 1.0
"""How often the holds on admission are updated with the current time."""
PACE_SECONDS = 0.02
"""How long released places are collected before the next admission, which is costly when thousands wait."""
logger = logging.getLogger(__name__)


class LostLeadership(Exception):
    """This process no longer leads, or can't be sure that it does."""


class TracesUnavailable(Exception):
    """Traces are on, and OpenTelemetry can't be used."""


async def run(settings: Settings) -> None:
    """Run until cancelled.

    :raises LostLeadership: if another process leads or may lead. This process may write nothing more and must end.
    :raises TracesUnavailable: if the settings ask for traces, and OpenTelemetry can't be used.
    """
    rate = CallRate(settings.calls_per_second, settings.calls_at_once)
    client = await Client.connect(settings.request_timeout_seconds, rate)
    try:
        await Operator(settings, client).run()
    finally:
        await client.close()


def _span_recorder(settings: Settings) -> SpanRecorder | None:
    """Return what makes spans; None if traces are off. OpenTelemetry is imported only if they are on.

    :raises TracesUnavailable: if OpenTelemetry isn't installed, or can't be set up.
    """
    if settings.traces == "none":
        return None
    try:
        from spoke_jobs_operator.shell.reporting.span_recorder import SpanRecorder

        return SpanRecorder()
    except (ModuleNotFoundError, LookupError) as error:
        raise TracesUnavailable(f"SPOKE_OPERATOR_TRACES={settings.traces}: {error}") from None


class Operator:
    """The connected parts."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._identity = settings.identity or f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self._leadership = self._leadership_of(settings)
        self._leads = False
        self._primed = False  # whether this leader has counted the running attempts of all namespaces it could list
        self._metrics = OperatorMetrics(
            settings.metric_labels, settings.metric_label_limit, traced=settings.traces != "none"
        )
        self._store = Store()
        self._health = operator_health.OperatorHealth(settings.unhealthy_after_seconds)
        retention = settings.retention
        loop = asyncio.get_running_loop()
        throttle = StatusThrottle(
            settings.status_writes_per_second,
            settings.status_writes_at_once,
            settings.status_writes_within_seconds,
            clock=loop.time,
        )
        self._events = EventRecorder(
            client,
            self._metrics,
            self._identity,
            per_second=settings.events_per_second,
            at_once=settings.events_at_once,
            now=utc_now,
            clock=loop.time,
        )
        record = self._events.record
        self._spans = _span_recorder(settings)
        self._controller = Controller(
            client,
            self._store,
            self._metrics,
            retention,
            throttle,
            record=record,
            record_spans=None if self._spans is None else self._spans.record,
        )
        self._queue = WorkQueue(
            self._handle,
            workers=settings.workers,
            group=lambda key: key.namespace,
            on_error=_reporter(self._metrics, self._store),
            on_taken=self._metrics.queue_seconds.observe,
        )
        self._pacer = Pacer(
            settings.limits,
            self._queue.add,
            defer=lambda seconds, admit: loop.call_later(max(PACE_SECONDS, seconds), admit),
            holds=lambda: Holds(settings.max_pending, utc_now()),
            clock=utc_now,
            later=loop.call_later,
        )
        self._calls = PodCalls()
        self._standby = self._standby_pods(settings)
        self._pools = self._standby_pools(settings, self._standby)
        self._sources = LimitSources(client, self._store, settings.namespaces)
        self._keeper = LimitKeeper(
            settings.limits, self._store, self._pacer, wake=self._add, clock=utc_now, later=loop.call_later
        )
        self._store.on_limits = self._keeper.changed
        self._limit_reporter = LimitReporter(client, self._store, self._pacer, utc_now)
        self._compare = Compare(
            client,
            self._store,
            self._metrics,
            settings.namespaces,
            add=self._add,
            read_live_next=self._read_live_next,
            done=self._compared,
            begins=self._begin_namespace,
            limits=self._sources.compare,
        )
        standby = self._standby
        self._publisher = Publisher(
            client, self._store, self._pacer, self._identity, utc_now, standby.problems, standby.counts
        )
        self._metrics.queue_depth.set_function(lambda: len(self._queue))
        self._metrics.pending.set_function(lambda: self._pacer.room.pending if self._pacer.room else 0)
        self._metrics.without_room.set_function(lambda: self._pacer.room.wait_for_room if self._pacer.room else 0)
        self._metrics.leads.set_function(lambda: float(self._leads and self._leadership.leads()))
        self._metrics.jobs.watch(self._store, self._pacer, lambda: self._leads, utc_now)
        self._pacer.on_error = _counter(self._metrics, Where.ADMIT)
        self._keeper.on_error = self._limit_reporter.on_error = _counter(self._metrics, Where.LIMITS)
        self._publisher.on_error = _counter(self._metrics, Where.PUBLISH)
        self._store.on_error = _counter(self._metrics, Where.STORE)
        client.may_write = self._leadership.leads
        client.on_throttled = self._metrics.throttled.inc

    def _standby_pods(self, settings: Settings) -> StandbyPods:
        # Without the setting, nothing is assigned, and standby pods from before are deleted.
        key = standby_key(settings.standby_key_file if settings.standby_pods else "")
        # A pod that no operator replaces ends by itself, some time later.
        seconds = int(2 * settings.standby_max_age.total_seconds())
        pods = StandbyPods(self._store, key, seconds, keeps=settings.standby_pods)
        pods.on_change = self._add
        return pods

    def _standby_pools(self, settings: Settings, pods: StandbyPods) -> StandbyPools:
        client, store, metrics, calls = self._client, self._store, self._metrics, self._calls
        assignments = Assignments(client, store, metrics, pods, calls, utc_now)
        pools = StandbyPools(
            client,
            store,
            metrics,
            pods,
            calls,
            max_age=settings.standby_max_age,
            clock=utc_now,
            record=self._events.record,
            later=self._queue.add_after,
            free=self._pacer.set_free_standby,
        )
        self._controller.attach(self._queue, self._pacer, assignments, pools)
        return pools

    async def run(self) -> None:
        """Watch the cluster, and work once this replica leads."""
        settings = self._settings
        routes = operator_health.routes(self._health, self._metrics)
        server = probe_server.serve(routes, settings.health_port, settings.health_host)
        logger.info(
            "watching %s: spokejobs, jobs and pods by label, podtemplates, warnings",
            f"namespaces {', '.join(settings.namespaces)}" if settings.namespaces else "all namespaces",
            extra={"health_port": server.server_port, "limits": settings.limits.settings, "identity": self._identity},
        )
        try:
            async with asyncio.TaskGroup() as group:
                streams = Streams(
                    self._client, settings.namespaces, self._on_event, self._restarted, self._sources.watchable
                )
                group.create_task(streams.run())
                # List a namespace before deciding on it: an object that is not listed yet looks like a deleted one. A
                # namespace that can't be listed does not delay the others.
                await self._compare.first()
                group.create_task(self._compare.run(settings.compare_seconds, settings.full_compare_seconds))
                group.create_task(self._sources.poll())
                self._health.ready = True
                await self._leadership.gained()
                await self._lead()
        except ExceptionGroup as errors:
            if errors.split(LostLeadership)[1] is None:
                raise LostLeadership from None
            raise
        finally:
            await self._calls.close()
            await asyncio.to_thread(probe_server.close, server)
            if self._spans is not None:
                await asyncio.to_thread(self._spans.close)

    async def _lead(self) -> None:
        """Work as long as this replica leads. Release the Lease before stopping the streams, which takes a while."""
        self._leads = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._work())
                await self._leadership.lost()
                raise LostLeadership
        finally:
            self._leads = self._primed = False
            await self._leadership.release()

    async def _work(self) -> None:
        self._pacer.reset()  # the previous leader may have admitted others
        if self._settings.lease:  # the previous leader's last writes may not have arrived yet
            await self._compare.repeat()
        self._keeper.apply()  # before anything is admitted
        self._controller.prime(self._compare.has_compared)
        self._primed = True
        for item in self._store.spokejobs:
            self._queue.add(self._store.spokejobs.owner_of(item))
        self._add_pools(None)
        logger.info("ready", extra={"spokejobs": len(self._store.spokejobs), "jobs": len(self._store.jobs)})
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run())
            group.create_task(self._publisher.run(self._settings.publish_seconds))
            group.create_task(self._events.run())
            group.create_task(self._tick())
            group.create_task(self._limit_reporter.run())

    async def _tick(self) -> None:
        while True:
            try:
                self._pacer.tick(utc_now())
            except Exception as error:
                self._pacer.on_error(error)
            await asyncio.sleep(TICK_SECONDS)

    def _begin_namespace(self, namespace: str | None) -> None:
        # Before, others are still to be listed, and what runs there counts towards the same limits.
        if self._primed:
            self._keeper.apply()
            self._controller.prime(self._compare.has_compared, begun=namespace)
            self._add_pools(namespace)

    def _compared(self, namespace: str | None) -> None:
        self._health.beat()
        if self._leads:
            self._add_pools(namespace)  # an event of a PodTemplate may have been lost

    def _add_pools(self, namespace: str | None) -> None:
        """Queue the standby pods of a namespace, or of all."""
        for pool in self._pools.pools():
            if namespace in (None, pool.namespace):
                self._queue.add(pool)

    def _add(self, key: Key) -> None:
        if self._leads:  # a standby only watches
            self._queue.add(key)

    def _read_live_next(self, key: Key) -> None:
        if self._leads:
            self._controller.read_live_next(key)

    def _on_event(self, plural: str, body: Mapping[str, Any], gone: bool) -> None:
        self._health.beat()
        self._metrics.events.labels(plural).inc()
        for key in self._store.see(plural, body, gone=gone):
            if self._leads:  # a standby only watches
                # When many SpokeJobs arrive at once, all get their Jobs before the first statuses are written.
                self._queue.add(key, first=plural == Kind.SPOKEJOB.plural and not body.get("status"))

    def _restarted(self) -> None:
        self._metrics.stream_restarts.inc()
        self._compare.want_all()

    async def _handle(self, key: Key) -> None:
        if not self._compare.has_compared(key.namespace):  # the first comparison of the namespace queues it again
            return
        self._metrics.reconciles.inc()
        with self._metrics.reconcile_seconds.time():
            await self._controller.process(key)

    def _leadership_of(self, settings: Settings) -> Leadership:
        if not settings.lease:
            return Leadership()
        namespace, name = settings.lease.split("/")
        return ByLease(self._client, Key(namespace, name), self._identity, settings.lease_times)


def _counter(metrics: OperatorMetrics, where: Where) -> Callable[[Exception], None]:
    """Return a function that logs and counts an unexpected error of a loop that goes on."""

    def count(error: Exception) -> None:
        metrics.errors.labels(where).inc()
        logger.error("unexpected error; going on", exc_info=error, extra={"where": where.value})

    return count


def _reporter(metrics: OperatorMetrics, store: Store) -> Any:
    def report(key: Key, error: Exception, delay: float) -> None:
        metrics.errors.labels(Where.RECONCILE).inc()
        item = store.spokejob(key)
        about = log_fields(item) if isinstance(item, SpokeJob) else {"spokejob": str(key)}
        if isinstance(error, NotLeading):
            logger.warning("not written, since this replica no longer leads: %s", error, extra=about)
        elif isinstance(error, ApiError):
            level = logging.DEBUG if isinstance(error, Conflict) else logging.WARNING
            logger.log(level, "%s; retrying in %.1f s", error, delay, extra=about)
        else:
            logger.error("unexpected error; retrying in %.1f s", delay, exc_info=error, extra=about)

    return report
