"""One trace from a request to the last task, across processes: web server, workers or pods, and the task server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.integration.tasks.support.servers import task_server
from tests.integration.tasks.support.stage import left_in_outbox
from tests.integration.tracing.collector import Collector, Sent, collecting
from tests.pod_process import run_pod
from tests.ports import free_port
from tests.preloaded import completed
from tests.task_key import KEY
from tests.waiting import eventually, patient

from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest, JobState

HERE = Path(__file__).parent
PATH = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


def run(arguments: list[str], **environment: str) -> str:
    settings = os.environ | {"PYTHONPATH": PATH, "SPOKE_APP": "traced_shop"} | environment
    done = completed("worker", arguments, env=settings, timeout=patient(120))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def row_of(url: str, job_id: int) -> JobRequest:
    ledger = SqlLedger(create_engine(url))
    try:
        row = ledger.get(job_id)
    finally:
        ledger.engine.dispose()
    assert row is not None
    return row


def check(collector: Collector, job_type: str) -> tuple[Sent, Sent]:
    """Check the trace of a job that was retried once and dispatched a task. Return the spans of its attempts."""
    request, send = collector.one("upload"), collector.one(f"send {job_type}")
    first, second = collector.named(f"process {job_type}")
    ends = collector.named(f"complete {job_type}")
    task_sent, task_run = collector.one("send welcome"), collector.one("process welcome")
    ours = (request, send, first, second, *ends, task_sent, task_run)
    assert {span.trace_id for span in ours} == {request.trace_id}
    assert [(span.parent, span.links) for span in (send, first, second, task_sent, task_run)] == [
        (request.id, ()),
        (send.id, (send.id,)),
        (send.id, (send.id,)),
        (second.id, ()),
        (task_sent.id, (task_sent.id,)),
    ]
    assert [span.parent for span in ends] == [first.id, second.id]
    assert [span.attributes.get("messaging.spoke_jobs.cause") for span in ends] == ["JobError", None]
    assert {span.parent for span in collector.named(f"claim {job_type}")} == {send.id}
    assert len(collector.named(f"claim {job_type}")) == 2
    assert [span.kind for span in (send, first, task_sent, task_run)] == ["PRODUCER", "CONSUMER"] * 2
    assert [(span.failed, span.attributes.get("error.type")) for span in (first, second, task_run)] == [
        (True, "ValueError"),
        (False, None),
        (False, None),
    ]
    assert "+15550100" not in repr(collector.spans)
    return first, second


def test_in_workers(collector: Collector, sqlite_ledger_url: str) -> None:
    job_type = "import_contacts"
    database = {"SPOKE_DATABASE_URL": sqlite_ledger_url}
    job_id = int(run([str(HERE / "traced_shop.py"), job_type], **database, **collector.environment("web")))
    worker = ["-m", "spoke_jobs", "worker", "--drain", "--processes", "1"]
    run(worker, **database, **collector.environment("worker"))
    assert row_of(sqlite_ledger_url, job_id).state is JobState.SUCCEEDED
    eventually(lambda: collector.named("process welcome"), "the task's span has come")
    first, second = check(collector, job_type)
    assert (collector.one(f"send {job_type}").service, first.service, second.service) == ("web", "worker", "worker")


@contextmanager
def serving_worker(port: int, **environment: str) -> Iterator[None]:
    """A worker that serves its metrics."""
    command = [sys.executable, "-m", "spoke_jobs", "worker", "--processes", "1", "--health-port", str(port)]
    settings = os.environ | {"PYTHONPATH": PATH, "SPOKE_APP": "traced_shop"} | environment
    with subprocess.Popen(command, env=settings) as process:
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(patient(60)) == 0


def exemplars(port: int, name: str) -> set[str]:
    """The traces that a histogram of a worker names; none while the worker starts."""
    asks = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text"}
    )
    try:
        with urllib.request.urlopen(asks, timeout=patient(30)) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    except OSError:
        return set()
    samples = [sample for family in families if family.name == name for sample in family.samples]
    return {sample.exemplar.labels["trace_id"] for sample in samples if sample.exemplar is not None}


def test_a_worker_s_metrics_lead_to_the_traces_of_its_attempts(collector: Collector, sqlite_ledger_url: str) -> None:
    job_type, settings = "aimport_contacts", {"SPOKE_DATABASE_URL": sqlite_ledger_url}
    run([str(HERE / "traced_shop.py"), job_type], **settings, **collector.environment("web"))
    port = free_port()
    with serving_worker(port, **settings, **collector.environment("worker") | {"SPOKE_TRACES": "linked"}):
        waited = eventually(lambda: exemplars(port, "spoke_worker_job_wait_seconds"), "the first attempt's exemplar")
        eventually(lambda: len(collector.named(f"complete {job_type}")) == 2, "the spans of both attempts")
        ran = exemplars(port, "spoke_worker_attempt_run_seconds")
    first, second = collector.named(f"process {job_type}")
    assert waited == {first.trace_id}
    assert ran
    assert ran <= {first.trace_id, second.trace_id}
    assert first.trace_id != collector.one("upload").trace_id


class Pods:
    """The processes of the runner `kubernetes`, without a cluster: nobody creates SpokeJobs or copies outcomes."""

    def __init__(self, collector: Collector, url: str, tasks_url: str) -> None:
        self._collector = collector
        self._url = url
        self._environment = {
            "JOB_RUNNER": "kubernetes",
            "SPOKE_SUBMIT": "sync",
            "SPOKE_APP": "traced_shop",
            "SPOKE_DATABASE_URL": url,
            "SPOKE_TASKS_URL": tasks_url,
            "SPOKE_TASKS_KEY": KEY,
            "SPOKE_LOG_FORMAT": "json",
            "PYTHONPATH": PATH,
        }

    def dispatch(self, job_type: str) -> JobRequest:
        web = self._environment | self._collector.environment("web")
        return row_of(self._url, int(run([str(HERE / "traced_shop.py"), job_type], **web)))

    def attempts(self, job: JobRequest) -> str:
        """Run the job's two attempts. Return what the first one logged."""
        logs = []
        for number in (1, 2):
            pod = PodAssignment(job.id, job.uid, number).to_environment() | self._collector.environment(f"pod-{number}")
            logs.append(run_pod(self._environment | pod).stderr)
        assert row_of(self._url, job.id).state is JobState.SUCCEEDED, "\n".join(logs)
        return logs[0]


def server_environment(collector: Collector, **more: str) -> dict[str, Any]:
    return {"PYTHONPATH": PATH, "SPOKE_APP": "traced_shop", **collector.environment("tasks"), **more}


def test_in_pods_and_the_task_server(collector: Collector, postgres_ledger_url: str, tmp_path: Path) -> None:
    with task_server(tmp_path, **server_environment(collector)) as tasks:
        pods = Pods(collector, postgres_ledger_url, tasks.url)
        log = pods.attempts(pods.dispatch("import_contacts"))
        tasks.terminate()
        assert tasks.stopped() == 0
    first, second = check(collector, "import_contacts")
    assert (first.service, second.service, collector.one("process welcome").service) == ("pod-1", "pod-2", "tasks")
    started = [json.loads(line) for line in log.splitlines() if "started" in line]
    assert [line["trace_id"] for line in started] == [first.trace_id]


def test_a_task_in_the_outbox_keeps_its_trace_until_a_server_runs(
    collector: Collector, postgres_ledger_url: str, tmp_path: Path
) -> None:
    pods = Pods(collector, postgres_ledger_url, "http://127.0.0.1:9")
    pods.attempts(pods.dispatch("durable_import"))
    assert collector.named("process welcome") == []
    settings = server_environment(collector, SPOKE_DATABASE_URL=postgres_ledger_url)
    engine = create_engine(postgres_ledger_url)
    with task_server(tmp_path, **settings) as tasks:
        eventually(lambda: left_in_outbox(engine) == 0, "the task has run")
        tasks.terminate()
        assert tasks.stopped() == 0
    engine.dispose()
    check(collector, "durable_import")
