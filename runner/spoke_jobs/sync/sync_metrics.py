"""The liveness and the metrics of sync. It is alive while its loop runs, even if database or API server are down."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from http.server import ThreadingHTTPServer
from typing import Any, TypeVar, get_args
from urllib.parse import urlencode

from prometheus_client import Metric

from spoke_jobs.contract.metrics.metric_catalogue import buckets_of
from spoke_jobs.contract.metrics.metric_families import counter, counter_by_label, gauge
from spoke_jobs.contract.metrics.metric_spec import MetricSource
from spoke_jobs.ledger.cluster.ended_attempts import EndedAttempt
from spoke_jobs.ledger.cluster.lane_load import LaneLoad
from spoke_jobs.runners.attempt_counts import AttemptCounts
from spoke_jobs.runners.attempt_metrics import attempt_families
from spoke_jobs.runners.schedule_metrics import CountSchedules, lag_family, schedule_families
from spoke_jobs.shared import probe_server
from spoke_jobs.shared.histogram import Histogram
from spoke_jobs.shared.metric_exposition import Exposition
from spoke_jobs.shared.probe_server import Answer, Served
from spoke_jobs.sync.sync_model import Action
from spoke_jobs.sync.undecided import FAILED, GIVEN_UP
from spoke_jobs.sync.usage_metrics import UsageMetrics, counted

logger = logging.getLogger(__name__)
T = TypeVar("T")

STARTING = "starting"
STANDBY = "standby"
ACTIVE = "active"
STALE_SECONDS = 120.0
"""A loop that has made no turn for this long hangs: all timeouts of one turn together are shorter."""

Backlog = Callable[[], tuple[int, float]]
"""Count the due rows that have no SpokeJob yet, and the seconds since the oldest became due; called for each scrape."""


LaneLoads = Callable[[str | None], Mapping[str, LaneLoad]]
"""Returns the work of a set of workers of the lane `worker`, or of each (None), by name; called for each scrape."""


class SyncHealth:
    """What the loop did and when; written by the loop, read by the probe.

    :param organizations: how many organizations have metrics of their own.
    :param joined: whether attempts belong to the traces of their dispatches.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, organizations: int = 0, *, joined: bool = False
    ) -> None:
        self._clock = clock
        self._turned = self._tries_since = clock()
        self._compared: float | None = None
        self._role = STARTING
        self.done: Counter[str] = Counter()
        """How many actions were carried out, by kind."""
        self.repaired: Counter[str] = Counter()
        """How many of these actions a full comparison had found, by kind."""
        self.failures: Counter[str] = Counter()
        """How many decisions and routines raised an error, and how many jobs were given up because of that."""
        self.usage = UsageMetrics()
        """What ended attempts used."""
        self.attempts = AttemptCounts(MetricSource.SYNC, organizations)
        """How long ended attempts waited and ran."""
        self._joined = joined
        self.schedule_lag = Histogram(buckets_of("spoke_sync_schedule_lag_seconds"))
        """How late this sync has dispatched the jobs of schedules."""
        self.comparisons = 0
        self.last_compare_seconds = 0.0

    @property
    def role(self) -> str:
        """``starting``, ``standby``, ``active``, or what it waits for."""
        return self._role

    @role.setter
    def role(self, role: str) -> None:
        if self._role == STANDBY != role:
            self._tries_since = self._clock()
        self._role = role

    @property
    def behind_seconds(self) -> float | None:
        """Seconds since the last comparison or the first try to compare, whichever is later; None for a standby."""
        if self._role == STANDBY:
            return None
        since = self._tries_since if self._compared is None else max(self._compared, self._tries_since)
        return self._clock() - since

    def turned(self) -> None:
        """Record a turn of the loop."""
        self._turned = self._clock()

    def listed(self) -> None:
        """Record that database and API server were read completely. This ends an outage, even if much is left to do."""
        if self._role != ACTIVE:
            logger.info("ledger and cluster are available: this sync is the active one")
        self.role = ACTIVE

    def compared(self, seconds: float = 0.0) -> None:
        """Record a full comparison, and how many seconds it took."""
        self._compared = self._clock()
        self.comparisons += 1
        self.last_compare_seconds = seconds

    def ended(self, attempts: Sequence[EndedAttempt]) -> None:
        """Count attempts that have ended."""
        self.usage.observe(attempts, joined=self._joined)
        for attempt in counted(attempts, joined=self._joined):
            self.attempts.observe(attempt)

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether the loop runs, and the fields that the probe shows."""
        now = self._clock()
        since_turn = now - self._turned
        since_compare = None if self._compared is None else round(now - self._compared, 1)
        fields = {
            "role": self.role,
            "secondsSinceTurn": round(since_turn, 1),
            "secondsSinceCompare": since_compare,
        }
        return since_turn < STALE_SECONDS, fields


def serve_probes(
    health: SyncHealth,
    port: int,
    host: str = "",
    backlog: Backlog | None = None,
    schedules: CountSchedules | None = None,
    lanes: LaneLoads | None = None,
    worker_sets: Iterable[str] = (),
) -> ThreadingHTTPServer:
    """Answer ``GET /healthz`` (200 while the loop runs, else 503), ``GET /metrics`` and ``GET /scale``.

    They are answered in threads of their own. ``/scale?workers=NAME`` counts the jobs of that set only.

    :param port: 0 takes a free one.
    :param worker_sets: the names of the sets of workers.
    """
    routes: dict[str, Callable[[], Served]] = {
        "/healthz": lambda: probe_server.json_answer(*health.report()),
        "/metrics": lambda: exposition(health, backlog, schedules, lanes),
        "/scale": lambda: scale(lanes),
    }
    routes |= {f"/scale?{urlencode({'workers': name})}": partial(scale, lanes, name) for name in worker_sets}
    return probe_server.serve(routes, port, host)


def exposition(
    health: SyncHealth, backlog: Backlog | None, schedules: CountSchedules | None, lanes: LaneLoads | None = None
) -> Exposition:
    """Return all metrics."""
    families = [
        *_of_health(health),
        *_if_read(backlog, _of_backlog),
        *_if_read(lanes and partial(lanes, None), _of_lane),
        *health.usage.families(),
        *attempt_families(health.attempts),
        *_if_read(schedules, partial(schedule_families, MetricSource.SYNC)),
        lag_family(MetricSource.SYNC, health.schedule_lag),
    ]
    return Exposition(MetricSource.SYNC, families)


def scale(lanes: LaneLoads | None, name: str | None = None) -> Answer:
    """Return the load of a set of workers, or of each (None), as JSON for an autoscaler; 503 without the ledger.

    A wrong number would stop workers that run jobs, so there is none while nobody knows.
    """
    try:
        loads = lanes(name) if lanes is not None else {}
    except Exception as error:
        return probe_server.json_answer(False, {"error": f"the ledger can't be read: {type(error).__name__}"})
    return probe_server.json_answer(True, {name: _load_as_json(load) for name, load in loads.items()})


def _load_as_json(load: LaneLoad) -> dict[str, float]:
    seconds = round(load.oldest_seconds, 1)
    return {"jobs": load.jobs, "due": load.due, "running": load.running, "oldestDueSeconds": seconds}


def _of_health(health: SyncHealth) -> Iterator[Metric]:
    _, report = health.report()
    yield gauge("spoke_sync_active", health.role == ACTIVE)
    yield gauge("spoke_sync_seconds_since_turn", report["secondsSinceTurn"])
    behind = health.behind_seconds
    if behind is not None:
        yield gauge("spoke_sync_seconds_since_compare", round(behind, 1))
    if health.comparisons:
        yield gauge("spoke_sync_compare_seconds", health.last_compare_seconds)
    yield counter("spoke_sync_comparisons", health.comparisons)
    yield _by_kind("spoke_sync_actions", health.done)
    yield counter("spoke_sync_failed_decisions", health.failures[FAILED])
    yield counter("spoke_sync_undiagnosable", health.failures[GIVEN_UP])
    yield _by_kind("spoke_sync_repairs", health.repaired)


def _if_read(read: Callable[[], T] | None, families: Callable[[T], Iterable[Metric]]) -> Iterable[Metric]:
    """Return the metrics of what can be read now; none while the database is down, when the others are needed most."""
    if read is None:
        return ()
    try:
        found = read()
    except Exception:
        return ()
    return families(found)


def _of_backlog(found: tuple[int, float]) -> Iterator[Metric]:
    count, seconds = found
    yield gauge("spoke_sync_jobs_unlaunched", count)
    yield gauge("spoke_sync_oldest_unlaunched_seconds", seconds)


def _of_lane(loads: Mapping[str, LaneLoad]) -> Iterator[Metric]:
    due, running = gauge("spoke_sync_lane_jobs_due"), gauge("spoke_sync_lane_jobs_running")
    oldest = gauge("spoke_sync_lane_oldest_due_seconds")
    for name, load in loads.items():
        due.add_metric([name], load.due)
        running.add_metric([name], load.running)
        oldest.add_metric([name], load.oldest_seconds)
    yield from (due, running, oldest)


def _by_kind(name: str, counts: Mapping[str, int]) -> Metric:
    """Make a counter by kind of action. All kinds are initialized to 0, so that `increase()` sees the first event."""
    kinds = sorted(action.__name__ for action in get_args(Action))
    return counter_by_label(name, {kind: counts.get(kind, 0) for kind in kinds})
