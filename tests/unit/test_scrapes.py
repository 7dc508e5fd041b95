"""What Prometheus reads from each process, over HTTP and by its own parser. The operator: test_operator_metrics."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable, Iterable
from http.server import ThreadingHTTPServer

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.metric_scenes import FakeReads, OperatorScene, Scene, SyncScene, TasksScene, WorkerScene
from tests.task_key import KEY
from tests.waiting import patient

from spoke_jobs.contract.metrics.metric_catalogue import BY_PROCESS, COMMON
from spoke_jobs.ledger.schedules.schedule_states import ScheduleCounts, ScheduleState
from spoke_jobs.registry import Registry
from spoke_jobs.shared import probe_server
from spoke_jobs.shared.metric_exposition import OPENMETRICS, TEXT
from spoke_jobs.sync.sync_metrics import SyncHealth, serve_probes
from spoke_jobs.tasks.server.auth import Callers
from spoke_jobs.tasks.server.executor import TaskExecutor
from spoke_jobs.tasks.server.http_app import Intake, TaskApp
from spoke_jobs.tasks.server.task_metrics import TaskMetrics
from spoke_jobs.worker import worker_endpoint
from spoke_jobs.worker.worker_metrics import WorkerMetrics


def read(server: ThreadingHTTPServer) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=patient(30)) as answer:
            return str(answer.read().decode())
    finally:
        probe_server.close(server)


def schedules() -> ScheduleCounts:
    return ScheduleCounts({state: number for number, state in enumerate(ScheduleState)}, 7.0)


def of_sync() -> str:
    health = SyncHealth()
    health.compared()
    return read(serve_probes(health, 0, "127.0.0.1", lambda: (1, 2.0), schedules))


class Reads(FakeReads):
    """With another number of schedules in each state."""

    def schedules(self) -> ScheduleCounts:
        return schedules()


def of_worker() -> str:
    return read(worker_endpoint.serve(WorkerMetrics(), Reads(), 0, "127.0.0.1"))


def of_tasks() -> str:
    executor, intake = TaskExecutor(Registry(), concurrency=1, limit=10), Intake()
    executor.counts.waited.observe(0.1)
    app = TaskApp(executor, Callers(KEY), intake, TaskMetrics(executor, intake, 1))

    async def scrape() -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tasks") as client:
            return (await client.get("/metrics")).text

    return asyncio.run(scrape())


@pytest.mark.parametrize(("component", "scrape"), [("sync", of_sync), ("worker", of_worker), ("tasks", of_tasks)])
def test_each_process_names_its_release_and_its_resources(component: str, scrape: Callable[[], str]) -> None:
    families: dict[str, Metric] = {family.name: family for family in text_string_to_metric_families(scrape())}
    (build,) = families["spoke_build_info"].samples
    assert (build.labels["component"], build.value) == (component, 1)
    assert set(build.labels) == {"component", "version", "python"}
    assert families["process_cpu_seconds"].type == "counter"
    assert families["process_resident_memory_bytes"].samples[0].value > 0
    assert not [name for name in families if name.endswith("_created")]
    assert [name for name in families if name.startswith(f"spoke_{component}_")]


@pytest.mark.parametrize(("component", "scrape"), [("sync", of_sync), ("worker", of_worker)])
def test_processes_that_dispatch_the_jobs_of_schedules_count_these_by_state(
    component: str, scrape: Callable[[], str]
) -> None:
    families: dict[str, Metric] = {family.name: family for family in text_string_to_metric_families(scrape())}
    states = {sample.labels["state"]: sample.value for sample in families[f"spoke_{component}_schedules"].samples}
    assert states == {state.value: number for number, state in enumerate(ScheduleState)}
    assert families[f"spoke_{component}_oldest_due_schedule_seconds"].samples[0].value == 7


SCENES: dict[str, tuple[Callable[[], Scene], tuple[str, ...]]] = {
    "operator": (OperatorScene, ()),
    "operator by type and queue": (lambda: OperatorScene(("queue", "type")), ("type", "queue")),
    "sync": (SyncScene, ()),
    "worker": (WorkerScene, ()),
    "tasks": (TasksScene, ()),
}


@pytest.mark.parametrize(("make", "wanted"), SCENES.values(), ids=list(SCENES))
def test_a_process_serves_what_the_catalogue_says(make: Callable[[], Scene], wanted: tuple[str, ...]) -> None:
    """No more, no less, and each metric with the same kind, text and labels."""
    scene = make()
    scene.work()
    served = {
        family.name: (
            family.type,
            family.documentation,
            {name for sample in family.samples for name in sample.labels if name != "le"},
        )
        for family in scene.families()
    }
    said = {
        spec.name: (spec.kind.value, spec.text, set(spec.label_names(wanted)))
        for spec in (*COMMON, *BY_PROCESS[scene.source])
    }
    assert served == said


@pytest.mark.parametrize(("make", "_wanted"), SCENES.values(), ids=list(SCENES))
def test_both_formats_have_the_same_series(make: Callable[[], Scene], _wanted: tuple[str, ...]) -> None:
    """Prometheus asks for OpenMetrics, and falls back to the text format: nothing may begin anew then."""

    def series(families: Iterable[Metric]) -> set[tuple[str, frozenset[tuple[str, str]], float]]:
        return {
            (sample.name, frozenset(sample.labels.items()), sample.value)
            for family in families
            for sample in family.samples
        }

    scene = make()
    scene.work()
    answer = scene.answer()
    assert " # {" not in answer.body(OPENMETRICS).decode(), "without traces there are no exemplars"
    assert series(openmetrics.text_string_to_metric_families(answer.body(OPENMETRICS).decode())) == series(
        text_string_to_metric_families(answer.text)
    )


@pytest.mark.parametrize("make", [OperatorScene, SyncScene, WorkerScene, TasksScene])
def test_exemplars_are_where_the_catalogue_says(make: Callable[..., Scene]) -> None:
    trace_id = "a" * 32
    scene = make(trace_id=trace_id)
    scene.work()
    found = [
        (family.name, sample.exemplar.labels)
        for family in openmetrics.text_string_to_metric_families(scene.answer().body(OPENMETRICS).decode())
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert {name for name, _ in found} == {spec.name for spec in BY_PROCESS[scene.source] if spec.has_exemplars}
    assert all(labels == {"trace_id": trace_id} for _, labels in found)


def test_the_task_server_answers_in_both_formats() -> None:
    executor, intake = TaskExecutor(Registry(), concurrency=1, limit=10), Intake()
    app = TaskApp(executor, Callers(KEY), intake, TaskMetrics(executor, intake, 1))

    async def scrape(accept: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tasks") as client:
            return await client.get("/metrics", headers={"accept": accept})

    async def both() -> list[httpx.Response]:
        accepts = ("text/plain", "application/openmetrics-text;version=1.0.0") * 3
        return await asyncio.gather(*map(scrape, accepts))

    answers = asyncio.run(both())
    assert [answer.headers["content-type"] for answer in answers] == [TEXT.content_type, OPENMETRICS.content_type] * 3
    assert [answer.text.endswith("# EOF\n") for answer in answers] == [False, True] * 3
