"""The dashboards' queries, by a real Prometheus that scrapes one process of each kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from scripts.dashboards.__main__ import BOARDS
from tests.integration.charts.test_chart_dashboards import FILLED
from tests.metric_scenes import OperatorScene, Scene, SyncScene, TasksScene, WorkerScene
from tests.prometheus import EXEMPLAR_STORAGE, Target, scraping
from tests.waiting import eventually

from spoke_jobs.shared import probe_server
from spoke_jobs.shared.metric_exposition import Exposition


class Scraped(NamedTuple):
    """A process that is scraped."""

    make: Callable[[str], Scene]
    trace: str
    histograms: tuple[str, ...]
    """Those that show the trace."""


JOBS: dict[str, Scraped] = {
    "rel-spoke-operator": Scraped(
        lambda trace_id: OperatorScene(trace_id=trace_id),
        "a" * 32,
        ("operator_job_creation_seconds", "operator_job_start_seconds", "operator_attempt_run_seconds"),
    ),
    "rel-spoke-app-sync": Scraped(
        SyncScene,
        "b" * 32,
        ("sync_job_wait_seconds", "sync_attempt_run_seconds", "sync_attempt_peak_memory_bytes"),
    ),
    "ns/rel-spoke-app-workers": Scraped(
        WorkerScene, "c" * 32, ("worker_job_wait_seconds", "worker_attempt_run_seconds")
    ),
    "rel-spoke-app-tasks": Scraped(TasksScene, "d" * 32, ("tasks_wait_seconds", "tasks_run_seconds")),
}
"""As the charts' ServiceMonitors and PodMonitor name them."""
AS_GRAFANA = FILLED | {"$__rate_interval": "30s", "$namespace": ".*"}


def filled(expression: str) -> str:
    for name, value in AS_GRAFANA.items():
        expression = expression.replace(name, value)
    assert not re.search(r"@[A-Z]+@|\$", expression), expression
    return expression


def expressions() -> list[str]:
    """The queries of all panels, and those for the choices at the top."""
    found = [filled(query.expression) for board in BOARDS.values() for query in board.queries]
    for variable in (variable for board in BOARDS.values() for variable in board.variables):
        match = re.fullmatch(r"label_values\((\w+)\{(.*)\}, (\w+)\)", variable.query)
        assert match, variable
        found.append(filled(f'{match[1]}{{{match[3]}!="",{match[2]}}}'))
    return found


def scraped(scene: Scene) -> Callable[[], Exposition]:
    """Let something happen before each scrape."""

    def answer() -> Exposition:
        scene.work()
        return scene.answer()

    return answer


def test_prometheus_takes_each_query_and_finds_what_there_is_with_exemplars(tmp_path: Path) -> None:
    with ExitStack() as stack:
        targets = []
        for job, of in JOBS.items():
            server = probe_server.serve({"/metrics": scraped(of.make(of.trace))}, 0, "127.0.0.1")
            stack.callback(probe_server.close, server)
            targets.append(Target(server.server_port, job, honor_labels=job == "rel-spoke-operator"))
        prometheus = stack.enter_context(scraping(tmp_path, targets, options=[EXEMPLAR_STORAGE]))
        empty = expressions()
        assert len(empty) > 90

        def all_found() -> bool:
            empty[:] = [expression for expression in empty if not prometheus.query(expression)]
            return not empty

        eventually(all_found, "a value of each query; there is none of", state=lambda: "\n".join(empty))
        for query in (query for board in BOARDS.values() for query in board.queries if query.exemplars):
            assert prometheus.exemplars(filled(query.expression)), query
        for of in JOBS.values():
            for name in of.histograms:
                selector = f"spoke_{name}_bucket"
                found = eventually(lambda selector=selector: prometheus.exemplars(selector), f"exemplars of {name}")
                assert {exemplar["trace_id"] for exemplar in found} == {of.trace}, name
