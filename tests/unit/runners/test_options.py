"""Every option under every runner: honored, refused at dispatch, or (what only places a pod) ignored."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from spoke_jobs import (
    InvalidJobData,
    JobContext,
    JobData,
    JobState,
    RegistrationError,
    Registry,
    RetryPolicy,
    label_value,
)
from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.runners.kubernetes_runner import KubernetesRunner
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.runners.sql_runner import SqlRunner
from spoke_jobs.settings import Settings

TOMORROW = datetime.now(UTC) + timedelta(days=1)
OPTIONS: dict[str, Any] = {
    "queue_name": "q",
    "priority": 7,
    "run_after": TOMORROW,
    "unique_key": "k",
    "timeout_seconds": 5.5,
    "start_timeout_seconds": 60.0,
    "retention_seconds": 90.0,
    "retry": RetryPolicy(backoff_seconds=3, never=("ValueError",)),
    "pod_template": "large",
    "resources": {"limits": {"memory": "1Gi"}},
    "labels": {"team": "payments", "example.com/cost-center": "12"},
    "organization_id": 4,
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}
REFUSED = {
    "worker": set[str](),
    "same process": {"timeout_seconds"},
    "sync": {"timeout_seconds", "start_timeout_seconds", "run_after"},
    "kubernetes": set[str](),
}


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.job("noop")(lambda _ctx, _payload: None)
    return made


def runner_of(name: str, url: str, registry: Registry) -> SqlRunner:
    if name == "kubernetes":
        elsewhere = SecretStr("postgresql+psycopg://nobody@127.0.0.1:1/none")  # preparing a dispatch asks no database
        return KubernetesRunner(Settings(database_url=elsewhere, submit="sync"), registry)
    settings = Settings(
        database_url=SecretStr(url), jobs_same_process=name in ("same process", "sync"), jobs_sync=name == "sync"
    )
    return LegacyRunner(settings, registry)


@pytest.mark.parametrize(("name", "refused"), REFUSED.items(), ids=REFUSED)
def test_each_option_is_honored_or_refused(
    name: str, refused: set[str], sqlite_ledger_url: str, registry: Registry
) -> None:
    runner = runner_of(name, sqlite_ledger_url, registry)
    for option in refused:
        with pytest.raises(InvalidJobData, match=f"the runner 'legacy', as it is configured, can't honor {option}"):
            runner._prepare(JobData("noop", **{option: OPTIONS[option]}))
    honored = {option: value for option, value in OPTIONS.items() if option not in refused}
    new = runner._prepare(JobData("noop", **honored))
    assert {option: getattr(new, option, getattr(new.options, option, None)) for option in honored} == honored


def test_a_declared_option_is_refused_like_a_dispatched_one(sqlite_ledger_url: str) -> None:
    registry = Registry()
    registry.job("slow", timeout_seconds=5)(lambda _ctx, _payload: None)
    runner = LegacyRunner(Settings(database_url=SecretStr(sqlite_ledger_url), jobs_same_process=True), registry)
    with pytest.raises(InvalidJobData, match="timeout_seconds of 'slow'"):
        runner.dispatch_job(JobData("slow"))
    assert runner.ledger.list_jobs() == []
    runner.close()


def test_what_the_cluster_is_to_honor_stands_on_the_spokejob(sqlite_ledger_url: str, registry: Registry) -> None:
    runner = LegacyRunner(Settings(database_url=SecretStr(sqlite_ledger_url)), registry)
    spec = spokejob(runner.dispatch_job(JobData("noop", **OPTIONS)), "ns")["spec"]
    assert spec["resources"] == {"limits": {"memory": "1Gi"}}
    shown = (spec["priority"], spec["podTemplate"], spec["timeoutSeconds"], spec["startTimeoutSeconds"])
    assert shown == (7, "large", 6, 60)
    assert spec["traceparent"] == OPTIONS["traceparent"]
    assert (spec["retry"]["backoffSeconds"], spec["retry"]["jitter"], spec["organization"]) == (3, 0.25, 4)
    assert "resources" not in spokejob(runner.dispatch_job(JobData("noop")), "ns")["spec"]
    runner.close()


def test_labels_of_a_spokejob(sqlite_ledger_url: str, registry: Registry) -> None:
    registry.job("ingest.Van API", labels={"team": "declared", "app.kubernetes.io/part-of": "shop"})(lambda _ctx: None)
    runner = LegacyRunner(Settings(database_url=SecretStr(sqlite_ledger_url)), registry)
    data = JobData("ingest.Van API", queue_name="12:edit", organization_id=3)
    labels = spokejob(runner.dispatch_job(data), "ns")["metadata"]["labels"]
    kind, queue = labels.pop("jobs.spoke.dev/type"), labels.pop("jobs.spoke.dev/queue")
    assert kind == label_value("ingest.Van API")
    assert kind.startswith("ingest.Van-API-")
    assert queue == label_value("12:edit")
    assert labels == {
        "app.kubernetes.io/name": "spoke-job",
        "app.kubernetes.io/component": "job",
        "app.kubernetes.io/part-of": "shop",
        "app.kubernetes.io/managed-by": "spoke-jobs",
        "jobs.spoke.dev/organization": "3",
        "team": "declared",
    }
    given = spokejob(runner.dispatch_job(JobData("ingest.Van API", labels={"tier": "1"})), "ns")["metadata"]["labels"]
    assert "team" not in given, "a dispatch's labels replace those of the declaration, as with every option"
    assert given["tier"] == "1"
    assert not given.keys() & {"jobs.spoke.dev/queue", "jobs.spoke.dev/organization"}
    runner.close()


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ("team=payments", "a mapping is expected"),
        ({"team": "a b"}, "team is 'a b'.*label_value"),
        ({"team": "x" * 64}, "at most 63"),
        ({"team": 5}, "team is 5"),
        ({"-team": "a"}, "the key '-team'"),
        ({"Example.com/team": "a"}, "the key 'Example.com/team'"),
        ({"jobs.spoke.dev/type": "a"}, "sets itself"),
        ({"app.kubernetes.io/managed-by": "me"}, "sets itself"),
        ({f"k{n}": "v" for n in range(17)}, "has 17 entries, where at most 16"),
    ],
)
def test_labels_that_kubernetes_would_refuse_are_refused_at_dispatch(
    labels: Any, problem: str, sqlite_ledger_url: str, registry: Registry
) -> None:
    runner = runner_of("worker", sqlite_ledger_url, registry)
    with pytest.raises(InvalidJobData, match=problem):
        runner._prepare(JobData("noop", labels=labels))
    with pytest.raises(RegistrationError, match=problem):
        registry.job("other", labels=labels)


class TestMemory:
    """Under ``memory``, for tests, all of them mean what they mean elsewhere; only that nothing is waited for."""

    @pytest.fixture
    def order(self) -> list[str]:
        return []

    @pytest.fixture
    def runner(self, order: list[str]) -> MemoryRunner:
        registry = Registry()

        @registry.job("note")
        def note(_ctx: JobContext, payload: str) -> None:
            order.append(payload)

        @registry.job("slow", timeout_seconds=0.2)
        def slow(_ctx: JobContext, _payload: object) -> None:
            time.sleep(0.6)

        return MemoryRunner(Settings(), registry)

    def test_priority_then_age_and_run_after(self, runner: MemoryRunner, order: list[str]) -> None:
        runner.dispatch_job(JobData("note", "tomorrow", run_after=TOMORROW, priority=9))
        runner.dispatch_job(JobData("note", "first of the low"))
        runner.dispatch_job(JobData("note", "second of the low"))
        runner.dispatch_job(JobData("note", "high", priority=1))
        runner.drain()
        assert order == ["high", "first of the low", "second of the low", "tomorrow"]

    @pytest.mark.parametrize("commits", [True, False])
    def test_a_job_is_replaced_when_the_dispatch_commits(
        self, runner: MemoryRunner, order: list[str], commits: bool
    ) -> None:
        runner.dispatch_job(JobData("note", "once", unique_key="k"))
        engine = create_engine("sqlite://")
        with Session(engine) as session:
            data = JobData("note", "twice", unique_key="k", on_conflict="replace")
            assert runner.dispatch_job(data, session=session).payload == '"twice"'
            assert runner.jobs[0].payload == '"once"'
            session.commit() if commits else session.rollback()
        engine.dispose()
        runner.drain()
        assert order == ["twice" if commits else "once"]

    def test_a_timeout_is_the_job_s_end(self, runner: MemoryRunner) -> None:
        runner.dispatch_job(JobData("slow"))
        (job,) = runner.drain()
        assert (job.state, job.cause) == (JobState.FAILED, "Timeout")

    def test_a_batch_is_checked_before_one_is_recorded(self, runner: MemoryRunner) -> None:
        with pytest.raises(InvalidJobData):
            runner.dispatch_jobs([JobData("note", "good"), JobData("note", "bad", priority=5000)])
        assert runner.jobs == []
