"""Create the parts of the operator, connect them, and run them."""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from spoke_jobs.contract import names, probe_server
from spoke_jobs.contract.api_errors import ApiError, Conflict
from spoke_jobs.contract.spokejob import SpokeJob
from spoke_jobs_operator.core.api_objects import Key
from spoke_jobs_operator.core.cleanup import Retention
from spoke_jobs_operator.operator_settings import Settings

from . import operator_health
from .call_rate import CallRate
from .compare import Compare
from .controller import Controller, log_fields, now
from .leadership import Alone, ByLease, Leadership
from .operator_client import Client, NotLeading
from .operator_metrics import OperatorMetrics, Where
from .pacing import Pacer
from .publishing import Publisher
from .status_throttle import StatusThrottle
from .store import Store
from .streams import Streams
from .workqueue import WorkQueue

PACE_SECONDS = 0.02
"""How long released places are collected before the next admission, which is costly when thousands wait."""
logger = logging.getLogger(__name__)


class LostLeadership(Exception):
    """This process no longer leads, or can't be sure that it does."""


async def run(settings: Settings) -> None:
    """Run until cancelled.

    :raises LostLeadership: if another process leads or may lead. This process may write nothing more and must end.
    """
    rate = CallRate(settings.calls_per_second, settings.calls_at_once)
    client = await Client.connect(settings.request_timeout_seconds, rate)
    try:
        await Operator(settings, client).run()
    finally:
        await client.close()


class Operator:
    """The connected parts."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._identity = settings.identity or f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self._leadership = self._leadership_of(settings)
        self._leads = False
        self._metrics, self._store = OperatorMetrics(), Store()
        self._health = operator_health.OperatorHealth(settings.deaf_after_seconds)
        retention = Retention(job=timedelta(seconds=settings.job_retention_seconds))
        loop = asyncio.get_running_loop()
        throttle = StatusThrottle(
            settings.news_per_second, settings.news_at_once, settings.news_within_seconds, clock=loop.time
        )
        self._controller = Controller(client, self._store, self._metrics, retention, throttle)
        self._queue = WorkQueue(
            self._handle, on_error=_reporter(self._metrics, self._store), on_taken=self._metrics.queue_seconds.observe
        )
        self._pacer = Pacer(settings.limits, self._queue.add, defer=lambda admit: loop.call_later(PACE_SECONDS, admit))
        self._controller.attach(self._queue, self._pacer)
        self._compare = Compare(
            client,
            self._store,
            self._metrics,
            settings.namespaces,
            add=self._add,
            read_live_next=self._read_live_next,
            done=self._health.beat,
            begins=self._begin_namespace,
        )
        self._publisher = Publisher(client, self._store, self._pacer, self._identity, now)
        self._metrics.queue_depth.set_function(lambda: len(self._queue))
        self._metrics.running.set_function(lambda: self._pacer.usage.total)
        self._metrics.leads.set_function(lambda: float(self._leads and self._leadership.leads()))
        self._metrics.count_waiting(self._store.waiting)
        client.may_write = self._leadership.leads
        client.on_throttled = self._metrics.throttled.inc

    async def run(self) -> None:
        """Watch the cluster, and work once this replica leads."""
        settings = self._settings
        routes = operator_health.routes(self._health, self._metrics)
        server = probe_server.serve(routes, settings.health_port, settings.health_host)
        logger.info(
            "watching %s: spokejobs, jobs and pods by label, podtemplates, warnings",
            f"namespaces {', '.join(settings.namespaces)}" if settings.namespaces else "all namespaces",
            extra={"health_port": server.server_port, "limits": asdict(settings.limits), "identity": self._identity},
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(Streams(self._client, settings.namespaces, self._on_event, self._restarted).run())
                # List a namespace before deciding on it: an object that is not listed yet looks like a deleted one. A
                # namespace that can't be listed does not delay the others.
                await self._compare.first()
                group.create_task(self._compare.run(settings.compare_seconds, settings.full_compare_seconds))
                self._health.ready = True
                await self._leadership.gained()
                await self._lead()
        except ExceptionGroup as errors:
            if errors.split(LostLeadership)[1] is None:
                raise LostLeadership from None
            raise
        finally:
            await asyncio.to_thread(probe_server.close, server)

    async def _lead(self) -> None:
        """Work as long as this replica leads. Release the Lease before stopping the streams, which takes a while."""
        self._leads = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._work())
                await self._leadership.lost()
                raise LostLeadership
        finally:
            self._leads = False
            await self._leadership.release()

    async def _work(self) -> None:
        self._pacer.reset()  # the previous leader may have admitted others
        if self._settings.lease:  # the previous leader's last writes may not have arrived yet
            await self._compare.repeat()
        self._controller.prime(self._compare.has_compared)
        for item in self._store.spokejobs:
            self._queue.add(self._store.spokejobs.owner_of(item))
        logger.info("ready", extra={"spokejobs": len(self._store.spokejobs), "jobs": len(self._store.jobs)})
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(self._settings.workers))
            group.create_task(self._publisher.run(self._settings.publish_seconds))

    def _begin_namespace(self) -> None:
        if self._leads:
            self._controller.prime(self._compare.has_compared)

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
                # When many arrive at once, all get their Jobs before statuses of the first ones are written.
                self._queue.add(key, first=plural == names.PLURAL and not body.get("status"))

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
            return Alone()
        namespace, name = settings.lease.split("/")
        return ByLease(self._client, Key(namespace, name), self._identity, settings.lease_times)


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
