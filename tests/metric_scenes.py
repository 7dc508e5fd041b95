"""One of each kind of process, as a scrape sees it: with jobs, tasks, schedules and limits, so that it serves all its
metrics. :meth:`work` lets something of everything happen."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.operator.world import NAME, World

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.custom_resources.spokejob import Outcome, SpokeJob
from spoke_jobs.contract.executors import CLUSTER_RUNNER, LANE_RUNNER
from spoke_jobs.contract.limit_model import Pause
from spoke_jobs.contract.metrics.metric_spec import MetricSource
from spoke_jobs.contract.start_rate import StartRate
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.cluster.ended_attempts import EndedAttempt
from spoke_jobs.ledger.cluster.lane_load import LaneLoad
from spoke_jobs.ledger.pool_metrics import PoolUse
from spoke_jobs.ledger.schedules.schedule_states import ScheduleCounts, ScheduleState
from spoke_jobs.limits.admission import LimitFigures, LimitUse
from spoke_jobs.model import AttemptUsage, JobOptions
from spoke_jobs.registry import Registry
from spoke_jobs.runners.attempt_counts import ObservedAttempt
from spoke_jobs.shared.metric_exposition import Exposition
from spoke_jobs.sync import sync_metrics
from spoke_jobs.sync.sync_metrics import ACTIVE, SyncHealth
from spoke_jobs.tasks.protocol.messages import TaskOutcome
from spoke_jobs.tasks.server.executor import TaskExecutor
from spoke_jobs.tasks.server.http_app import Intake
from spoke_jobs.tasks.server.outbox_worker import OutboxCounts
from spoke_jobs.tasks.server.task_metrics import TaskMetrics
from spoke_jobs.worker import worker_endpoint
from spoke_jobs.worker.worker_metrics import WorkerMetrics
from spoke_jobs_operator.core.limits.limits import Bound, Limits, NamespaceLimits, RateBound
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.reconciling.observed import candidate_of
from spoke_jobs_operator.shell.admission.pacing import Pacer
from spoke_jobs_operator.shell.metrics.operator_metrics import EventDrop, OperatorMetrics, Where
from spoke_jobs_operator.shell.store.store import Store

_MIB = 2**20
_USED = AttemptUsage(100 * _MIB, 250, 2000)
_ASKS = JobOptions(resources={"requests": {"memory": "200Mi"}})


class Scene(ABC):
    """A process that somebody scrapes."""

    source: MetricSource

    @abstractmethod
    def work(self) -> None:
        """Let something of everything that is counted happen."""

    @abstractmethod
    def answer(self) -> Exposition:
        """Answer a scrape."""

    def text(self) -> str:
        """What a scrape reads."""
        return self.answer().text

    def families(self) -> list[Metric]:
        """What a scraper makes of it."""
        return list(text_string_to_metric_families(self.text()))


class OperatorScene(Scene):
    """A leader with jobs in the namespace `shop`."""

    source = MetricSource.OPERATOR

    def __init__(self, labels: Sequence[str] = (), trace_id: str = "") -> None:
        self._now = datetime.now(UTC)
        self._traceparent = traceparent(trace_id)
        self.metrics = OperatorMetrics(labels, traced=True)
        rate = RateBound(StartRate.parse("6/min", 5), Key("shop", "slow"))
        own = NamespaceLimits(
            bounds={"all": Bound(3, "SpokeLimit all"), "queue:mail": Bound(1, "SpokeLimit mail")},
            rates={"queue:mail": (rate,)},
            pauses={"queue:slow": Pause("SpokeLimit slow", by="kubectl-edit")},
        )
        store, self._pacer = Store(), Pacer(Limits(running=10, namespaces={"shop": own}), lambda _: None)
        self._running = self._put(store, 1, {"outcome": "Running", "attempt": 1, "attempts": [
            {"number": 1, "job": "j", "startedAt": (self._now - timedelta(minutes=5)).isoformat()}
        ]})  # fmt: skip
        self._put(store, 2, {"outcome": "Waiting", "cause": "LimitReached"})
        self._pacer.prime([candidate_of(self._running)], [])
        self.metrics.jobs.watch(store, self._pacer, lambda: True, lambda: self._now)
        self.metrics.leads.set(1)

    def _put(self, store: Store, number: int, status: dict[str, Any]) -> SpokeJob:
        body = World(requestId=number, queue="mail", traceparent=self._traceparent).spokejob
        body["metadata"] |= {
            "namespace": "shop",
            "name": f"{NAME}-{number}",
            "uid": f"shop-{number}",
            "creationTimestamp": (self._now - timedelta(hours=1)).isoformat(),
        }
        store.spokejob_seen(body | {"status": status})
        spokejob = store.spokejob(Key("shop", f"{NAME}-{number}"))
        assert isinstance(spokejob, SpokeJob)
        return spokejob

    def work(self) -> None:
        metrics, jobs, spokejob = self.metrics, self.metrics.jobs, self._running
        jobs.created(spokejob, 1.0)
        jobs.started(spokejob, 3.0)
        jobs.ran(spokejob, 40.0)
        jobs.attempt_failed(spokejob, Cause.JOB_ERROR.value)
        jobs.finished(spokejob, Outcome.SUCCEEDED, "")
        jobs.finished(spokejob, Outcome.FAILED, Cause.JOB_ERROR.value)
        jobs.standby_attempt("shop", "hit")
        metrics.standby_pods.labels("shop", "free").set(1)
        metrics.standby_seconds.observe(0.05)
        metrics.reconciles.inc()
        metrics.reconcile_seconds.observe(0.01)
        metrics.queue_seconds.observe(0.01)
        metrics.queue_depth.set(1)
        metrics.errors.labels(Where.RECONCILE).inc()
        metrics.compare_failures.labels("shop").inc()
        metrics.writes.labels("status").inc()
        metrics.events.labels("spokejobs").inc()
        metrics.events_sent.labels("Normal").inc()
        metrics.events_dropped.labels(EventDrop.RATE).inc()
        metrics.throttled.inc()

    def answer(self) -> Exposition:
        return Exposition(self.source, self.metrics.registry.collect())


class SyncScene(Scene):
    """An active sync with an ended attempt in each lane."""

    source = MetricSource.SYNC

    def __init__(self, trace_id: str = "") -> None:
        self.health = SyncHealth(organizations=5, joined=True)
        self._options = replace(_ASKS, traceparent=traceparent(trace_id) or None)
        self.health.role = ACTIVE

    def work(self) -> None:
        self.health.turned()
        self.health.compared(0.2)
        self.health.done["Launch"] += 1
        ended = [
            EndedAttempt("report", runner, self._options, _USED, "mail", 7, succeeded, 2.0, 0.5)
            for runner in (CLUSTER_RUNNER, LANE_RUNNER)
            for succeeded in (True, False)
        ]
        self.health.ended(ended)
        self.health.schedule_lag.observe(0.2)

    def answer(self) -> Exposition:
        lanes = {"small": LaneLoad(due=2, running=1, oldest_seconds=3.0)}
        return sync_metrics.exposition(self.health, lambda: (1, 2.0), schedules, lambda _: lanes)


class WorkerScene(Scene):
    """A worker."""

    source = MetricSource.WORKER

    def __init__(self, trace_id: str = "") -> None:
        self._trace_id = trace_id
        self.metrics = WorkerMetrics(organizations=5)
        self.reads = FakeReads()

    def work(self) -> None:
        self.metrics.polled()
        self.metrics.running = 1
        attempt = ObservedAttempt("report", "mail", "", 7, False, wait_seconds=0.5)
        for code in (ExitCode.DONE, ExitCode.FAILED):
            self.metrics.ended(code)
            self.metrics.ran(attempt, code, 2.0, self._trace_id)
        self.metrics.schedule_lag.observe(0.2)
        self.reads.failures += 1

    def answer(self) -> Exposition:
        return worker_endpoint.exposition(self.metrics, self.reads)


class FakeReads:
    """What a worker reads from a ledger with due jobs, a schedule of each state, a limit and a pause."""

    def __init__(self) -> None:
        self.failures = 0

    @property
    def failed(self) -> Callable[[], int]:
        return lambda: self.failures

    def backlog(self) -> dict[str, float]:
        return {"due": 3, "oldest": 4.0}

    def schedules(self) -> ScheduleCounts:
        return schedules()

    def limits(self) -> LimitFigures:
        return LimitFigures((LimitUse("queue:mail", 2, 1),), {"queue:slow": "sam"})

    def pool(self) -> PoolUse | None:
        return PoolUse(1, 2, 15)


class TasksScene(Scene):
    """A replica of the task server, with an outbox."""

    source = MetricSource.TASKS

    def __init__(self, trace_id: str = "") -> None:
        self._trace_id = trace_id
        self._executor, self._intake = TaskExecutor(Registry(), concurrency=1, limit=10), Intake()
        self._outbox: Any = SimpleNamespace(
            held=1, counts=OutboxCounts(), backlog=lambda: {"due": 2, "oldest": 3.0, "failed": 1}
        )
        pool = PoolUse(1, 2, 40)
        self._metrics = TaskMetrics(self._executor, self._intake, 1, self._outbox, pool=lambda: pool)

    def work(self) -> None:
        counts = self._executor.counts
        counts.accepted += 1
        counts.ended[TaskOutcome.DONE] += 1
        counts.waited.observe(0.1, self._trace_id)
        counts.ran.observe(0.2, self._trace_id)
        self._intake.requests += 1
        self._outbox.counts.claimed += 1

    def answer(self) -> Exposition:
        return asyncio.run(self._metrics())


def traceparent(trace_id: str) -> str:
    """The context of a sampled span in a trace; empty without one."""
    return f"00-{trace_id}-00f067aa0ba902b7-01" if trace_id else ""


def schedules() -> ScheduleCounts:
    """One schedule of each state."""
    return ScheduleCounts(dict.fromkeys(ScheduleState, 1), 7.0)


SCENES: tuple[Callable[[], Scene], ...] = (OperatorScene, SyncScene, WorkerScene, TasksScene)
"""One process of each kind."""
