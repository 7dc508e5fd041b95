"""The operator's metrics, as a scraper reads them."""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.operator.world import NAME, World
from tests.waiting import patient

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.custom_resources.spokejob import Outcome, SpokeJob
from spoke_jobs.contract.limit_model import Pause
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.contract.start_rate import StartRate
from spoke_jobs.shared import probe_server
from spoke_jobs_operator.core.admission.admit import Candidate
from spoke_jobs_operator.core.limits.limits import Bound, Limits, NamespaceLimits, RateBound
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.reconciling.actions import Standing
from spoke_jobs_operator.core.reconciling.observed import candidate_of
from spoke_jobs_operator.shell.admission.pacing import Pacer
from spoke_jobs_operator.shell.metrics.job_metrics import IDLE_SECONDS, OTHER_CAUSE, JobMetrics
from spoke_jobs_operator.shell.metrics.operator_metrics import OperatorMetrics, Where
from spoke_jobs_operator.shell.process.operator_health import OperatorHealth, routes
from spoke_jobs_operator.shell.store.store import Store

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Scene:
    """A leader's metrics of SpokeJobs that the test puts into its store."""

    def __init__(
        self, labels: tuple[str, ...] = (), limit: int = 50, limits: Limits | None = None, *, traced: bool = False
    ) -> None:
        self.metrics = OperatorMetrics(labels, limit, traced=traced)
        self.store = Store()
        self.pacer = Pacer(limits or Limits(), lambda _: None)
        self.leads = True
        self.clock = 0.0
        self.jobs: JobMetrics = self.metrics.jobs
        self.jobs._clock = lambda: self.clock
        self.jobs.watch(self.store, self.pacer, lambda: self.leads, lambda: NOW)
        self._made = 0

    def put(self, namespace: str, status: dict[str, Any] | None = None, *, running: bool = False, **spec: Any) -> Any:
        """Store a SpokeJob; return it."""
        self._made += 1
        world = World(**{"requestId": self._made} | spec)
        body = world.spokejob
        body["metadata"] |= {
            "namespace": namespace,
            "name": f"{NAME}-{self._made}",
            "uid": f"{namespace}-{self._made}",
            "creationTimestamp": (NOW - self._made * HOUR).isoformat(),
        }
        self.store.spokejob_seen(body | {"status": status or {}})
        spokejob = self.store.spokejob(Key(namespace, f"{NAME}-{self._made}"))
        assert isinstance(spokejob, SpokeJob)
        if running:
            self.pacer.prime([candidate_of(spokejob)], [])
        return spokejob

    def scrape(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a metric, by the values of its labels."""
        return {
            tuple(sample.labels.values()): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"spoke_operator_{name}"
        }


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(("traced", "flags", "found"), [(True, "01", 3), (True, "00", 0), (False, "01", 0)])
def test_jobs_of_sampled_traces_are_exemplars_if_the_operator_makes_spans(traced: bool, flags: str, found: int) -> None:
    s = Scene(traced=traced)
    spokejob = s.put("a", traceparent=f"00-{TRACE}-00f067aa0ba902b7-{flags}")
    s.jobs.created(spokejob, 1.0)
    s.jobs.started(spokejob, 3.0)
    s.jobs.ran(spokejob, 40.0)
    samples = [sample for family in s.metrics.registry.collect() for sample in family.samples]
    exemplars = {sample.name: sample.exemplar.labels for sample in samples if sample.exemplar is not None}
    names = [f"spoke_operator_{name}_seconds_bucket" for name in ("job_creation", "job_start", "attempt_run")]
    assert exemplars == {name: {"trace_id": TRACE} for name in names[:found]}


WAITING = {"outcome": "Waiting", "cause": "LimitReached"}
RUNNING = {"outcome": "Running", "attempt": 1, "attempts": [
    {"number": 1, "job": "j", "startedAt": (NOW - timedelta(minutes=5)).isoformat()}
]}  # fmt: skip


def test_each_namespace_has_its_own_counts_and_its_own_oldest() -> None:
    s = Scene()
    s.put("a", RUNNING, running=True)
    s.put("a", WAITING)
    s.put("a", WAITING)
    s.put("b", WAITING)
    s.put("b")
    assert s.scrape("attempts_running") == {("a",): 1}
    assert s.scrape("oldest_running_seconds") == {("a",): 300}
    assert s.scrape("waiting") == {("a", "LimitReached"): 2, ("b", "LimitReached"): 1, ("b", "New"): 1}
    assert s.scrape("oldest_waiting_seconds") == {
        ("a", "LimitReached"): 3 * 3600, ("b", "LimitReached"): 4 * 3600, ("b", "New"): 5 * 3600
    }  # fmt: skip


def test_a_standby_reports_no_jobs_so_that_sums_over_replicas_are_right() -> None:
    s = Scene()
    s.put("a", WAITING)
    s.leads = False
    assert s.scrape("waiting") == {}


def test_limits_are_shown_with_their_use() -> None:
    s = Scene(limits=Limits(running=10, in_namespace=5, in_queue=2, for_organization=3))
    s.put("a", RUNNING, running=True, queue="q")
    s.put("a", RUNNING, running=True, queue="q", organization=1)
    s.put("b", RUNNING, running=True, queue="other")
    assert s.scrape("limit") == {
        ("", "all"): 10,
        **{(name, scope): most for name in "ab"
           for scope, most in (("all", 5), ("each-queue", 2), ("each-organization", 3))},
    }  # fmt: skip
    assert s.scrape("limit_used") == {
        ("", "all"): 3,
        ("a", "all"): 2, ("a", "each-queue"): 2, ("a", "each-organization"): 1,
        ("b", "all"): 1, ("b", "each-queue"): 1, ("b", "each-organization"): 0,
    }  # fmt: skip


def test_limits_of_a_namespace_are_shown_by_their_scopes_and_pauses_by_who_set_them() -> None:
    own = NamespaceLimits(
        bounds={
            "all": Bound(3, "SpokeLimit all"),
            "queue:q": Bound(1, "SpokeLimit q"),
            "organization:7": Bound(2, "SpokeLimit seven"),
        },
        pauses={"queue:slow": Pause("SpokeLimit slow", by="kubectl-edit")},
    )
    s = Scene(
        limits=Limits(namespaces={"a": own, "c": NamespaceLimits(pauses={"all": Pause("Namespace c", "maintenance")})})
    )
    s.put("a", RUNNING, running=True, queue="q", organization=7)
    assert s.scrape("limit") == {("a", "all"): 3, ("a", "queue:q"): 1, ("a", "organization:7"): 2}
    assert s.scrape("limit_used") == {("a", "all"): 1, ("a", "queue:q"): 1, ("a", "organization:7"): 1}
    assert s.scrape("paused") == {
        ("a", "queue:slow", "SpokeLimit slow", "kubectl-edit"): 1,
        ("c", "all", "Namespace c", ""): 1,
    }


def test_rates_are_shown_with_the_tokens_that_are_left() -> None:
    slow, fast = (RateBound(StartRate.parse(rate, 5), Key("a", name)) for rate, name in (("6/min", "x"), ("1/s", "y")))
    others = {f"key:{number:03}": (replace(slow, limit=Key("a", f"k{number}")),) for number in range(60)}
    rates = {"queue:q": (fast, slow), **others}
    s = Scene(limits=Limits(namespaces={"a": NamespaceLimits(rates=rates)}))
    s.pacer.settle(Candidate(Key("a", "x"), 0, NOW, Subject("", "q")), Standing.WAITS)
    per_second, tokens = s.scrape("rate_per_second"), s.scrape("rate_tokens")
    assert len(per_second) == len(tokens) == 50, "those with the fewest tokens"
    assert (per_second["a", "queue:q"], tokens["a", "queue:q"]) == (0.1, 4)


def test_a_namespace_with_many_limits_shows_the_fullest_ones() -> None:
    bound = Bound(5, "SpokeLimit x")
    scopes = [f"{kind}{number}" for kind in ("queue:q", "organization:") for number in range(300)]
    own = NamespaceLimits(
        bounds=dict.fromkeys(scopes, bound),
        pauses=dict.fromkeys(scopes, Pause("SpokeLimit x")),
    )
    s = Scene(limits=Limits(namespaces={"a": own}))
    s.put("a", running=True, queue="q222", organization=222)
    shown = s.scrape("limit_used")
    assert len(shown) == len(s.scrape("limit")) == len(s.scrape("paused")) == 100
    assert shown["a", "queue:q222"] == shown["a", "organization:222"] == 1


def test_type_and_queue_are_labels_if_wanted_and_bounded_in_each_namespace() -> None:
    s = Scene(("type", "queue"), limit=2)
    for number in range(5):
        s.put("a", WAITING, jobType=f"t{number}", queue="q")
    s.put("b", WAITING, jobType="t9")
    assert s.scrape("waiting") == {
        ("a", "t0", "q", "LimitReached"): 1,
        ("a", "t1", "q", "LimitReached"): 1,
        ("a", "other", "other", "LimitReached"): 3,
        ("b", "t9", "", "LimitReached"): 1,
    }


def test_a_label_has_its_own_values_in_whatever_order_labels_are_wanted() -> None:
    s = Scene(("queue", "type"))
    spokejob = s.put("a", WAITING, jobType="t", queue="q")
    s.jobs.attempt_failed(spokejob, "JobError")
    assert s.scrape("waiting") == {("a", "t", "q", "LimitReached"): 1}
    assert s.scrape("attempts_failed_total") == {("a", "t", "q", "JobError"): 1}


def test_ends_and_times_are_counted_by_namespace() -> None:
    s = Scene()
    one, other = s.put("a"), s.put("b")
    s.jobs.finished(one, Outcome.FAILED, "JobError")
    s.jobs.finished(other, Outcome.SUCCEEDED, "")
    s.jobs.attempt_failed(one, "JobError")
    s.jobs.ran(one, 40.0)
    s.jobs.unreadable_finished("c", "InvalidSpec")
    ends = {labels: count for labels, count in s.scrape("jobs_finished_total").items() if count}
    assert ends == {
        ("a", "Failed", "JobError"): 1, ("b", "Succeeded", ""): 1, ("c", "Failed", "InvalidSpec"): 1
    }  # fmt: skip
    assert s.scrape("attempts_failed_total") == {("a", "JobError"): 1}
    assert s.scrape("attempt_run_seconds_sum") == {("a",): 40}


def test_what_alarms_count_is_told_before_it_happens() -> None:
    """An increase from nothing would be none to Prometheus: a first burst would pass unseen."""
    s = Scene()
    s.put("a")
    ends = [("Succeeded", ""), *(("Failed", cause) for cause in (*CAUSES, OTHER_CAUSE))]
    told = s.scrape("jobs_finished_total")
    assert {labels: told["a", *labels] for labels in ends} == dict.fromkeys(ends, 0)
    assert s.scrape("errors_total") == {(where.value,): 0 for where in Where}


def test_a_namespace_without_jobs_is_forgotten_after_an_hour() -> None:
    s = Scene()
    spokejob = s.put("a")
    s.jobs.finished(spokejob, Outcome.SUCCEEDED, "")
    assert s.scrape("jobs_finished_total")["a", "Succeeded", ""] == 1
    s.store.spokejobs.remove(Key("a", spokejob.name), spokejob.uid)
    s.jobs.standby_attempt("a", "hit")
    s.clock = IDLE_SECONDS
    assert s.scrape("jobs_finished_total")["a", "Succeeded", ""] == 1
    assert s.scrape("standby_attempts_total") == {("a", "hit"): 1}
    s.clock += 1
    assert s.scrape("jobs_finished_total") == {}
    assert s.scrape("standby_attempts_total") == {}
    s.put("a")
    assert s.scrape("jobs_finished_total")["a", "Succeeded", ""] == 0


async def test_a_scraper_reads_what_it_expects_of_every_process_and_no_creation_times() -> None:
    s = Scene()
    s.put("a", WAITING)
    s.jobs.started(s.put("a"), 3.0)
    server = probe_server.serve(routes(OperatorHealth(unhealthy_after_seconds=120), s.metrics), 0, "127.0.0.1")

    def scrape() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=patient(30)) as answer:
            return str(answer.read().decode())

    try:
        families = {family.name: family for family in text_string_to_metric_families(await asyncio.to_thread(scrape))}
    finally:
        await asyncio.to_thread(probe_server.close, server)
    (build,) = families["spoke_build_info"].samples
    assert (build.labels["component"], build.value) == ("operator", 1)
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_start_time_seconds"} <= families.keys()
    assert not [name for name in families if name.endswith("_created")]
    assert {tuple(sample.labels.values()) for sample in families["spoke_operator_waiting"].samples} == {
        ("a", "LimitReached"), ("a", "New")
    }  # fmt: skip
    assert families["spoke_operator_job_start_seconds"].type == "histogram"
