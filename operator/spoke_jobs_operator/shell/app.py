"""The operator as a whole: what feeds what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from spoke_jobs_operator.core.admit import Limits
from spoke_jobs_operator.core.cleanup import Retention
from spoke_jobs_operator.core.model import Key
from spoke_jobs_operator.settings import Settings

from . import health
from .client import ApiError, Client
from .compare import Compare
from .controller import Controller
from .leadership import Alone, Leadership
from .metrics import Metrics
from .pacing import Pacer
from .store import Store
from .streams import Streams
from .workqueue import WorkQueue

logger = logging.getLogger(__name__)


async def run(settings: Settings, leadership: Leadership | None = None) -> None:
    """Run until cancelled.

    :raises LostLead: when another process leads: nothing may be written any more, so the process is to end.
    """
    client = await Client.connect(settings.request_timeout_seconds)
    try:
        await _run(settings, leadership or Alone(), client)
    finally:
        await client.close()


class LostLead(Exception):
    """Another process leads."""


async def _run(settings: Settings, leadership: Leadership, client: Client) -> None:
    metrics, store = Metrics(), Store()
    pulse = health.Pulse(settings.deaf_after_seconds)

    async def handle(key: Key) -> None:
        if compare.has_compared(key.namespace):  # else its first comparison will have it looked at
            await measured(key)

    controller = Controller(client, store, metrics, Retention(job=timedelta(seconds=settings.job_retention_seconds)))
    queue = WorkQueue(handle, on_error=_reporter(metrics))
    measured = _measured(controller, metrics)
    metrics.queue_depth.set_function(lambda: len(queue))
    controller.attach(queue, Pacer(Limits(running=settings.max_running), queue.add))
    compare = Compare(
        client,
        store,
        metrics,
        settings.namespaces,
        add=queue.add,
        distrust=controller.distrust,
        done=pulse.beat,
        begins=controller.prime,
    )

    def hear(plural: str, body: Mapping[str, Any], gone: bool) -> None:
        pulse.beat()
        metrics.events.labels(plural).inc()
        for key in store.see(plural, body, gone=gone):
            queue.add(key)

    def restarted() -> None:
        metrics.stream_restarts.inc()
        compare.want_all()

    runner, port = await health.serve(health.application(pulse, metrics), settings.health_host, settings.health_port)
    logger.info(
        "watching %s: spokejobs, jobs and pods by label, podtemplates, FailedCreate events",
        f"namespaces {', '.join(settings.namespaces)}" if settings.namespaces else "all namespaces",
        extra={"health_port": port, "max_running": settings.max_running},
    )
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(Streams(client, settings.namespaces, hear, restarted).run())
            # All that is there is taken in before anything is decided: half a picture looks like a loss.
            # What belongs to a namespace that can't be listed yet has to wait for that; the others don't.
            await compare.first()
            await leadership.gained()
            controller.prime()
            pulse.ready = True
            logger.info("ready", extra={"spokejobs": len(store.spokejobs), "jobs": len(store.jobs)})
            group.create_task(queue.run(settings.workers))
            group.create_task(compare.run(settings.compare_seconds, settings.full_compare_seconds))
            await leadership.lost()
            raise LostLead
    finally:
        await runner.cleanup()


def _measured(controller: Controller, metrics: Metrics) -> Any:
    async def handle(key: Key) -> None:
        metrics.reconciles.inc()
        with metrics.reconcile_seconds.time():
            await controller.process(key)

    return handle


def _reporter(metrics: Metrics) -> Any:
    def report(key: Key, error: Exception, delay: float) -> None:
        metrics.errors.labels("reconcile").inc()
        if isinstance(error, ApiError):
            level = logging.DEBUG if error.status == 409 else logging.WARNING
            logger.log(level, "%s; again in %.1f s", error, delay, extra={"spokejob": str(key)})
        else:
            logger.error("again in %.1f s", delay, exc_info=error, extra={"spokejob": str(key)})

    return report
