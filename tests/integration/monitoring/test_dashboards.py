"""The dashboards' queries, by a real Prometheus that scrapes one process of each kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from scripts.dashboards.__main__ import BOARDS
from tests.metric_scenes import OperatorScene, Scene, SyncScene, TasksScene, WorkerScene
from tests.prometheus import EXEMPLAR_STORAGE, Target, scraping
from tests.waiting import eventually

from spoke_jobs.shared import probe_server
from spoke_jobs.shared.metric_exposition import Exposition

JOBS: dict[str, Callable[..., Scene]] = {
    "rel-spoke-operator": OperatorScene,
    "rel-spoke-app-sync": SyncScene,
    "ns/rel-spoke-app-workers": WorkerScene,
    "rel-spoke-app-tasks": TasksScene,
}
"""As the charts' ServiceMonitors and PodMonitor name them."""
FILLED = {
    "@OPERATOR@": 'namespace="ns",job="rel-spoke-operator"',
    "@JOBS@": 'job="rel-spoke-operator"',
    "@SYNC@": 'namespace="ns",job="rel-spoke-app-sync"',
    "@WORKERS@": 'namespace="ns",job="ns/rel-spoke-app-workers"',
    "@TASKS@": 'namespace="ns",job="rel-spoke-app-tasks"',
    "$__rate_interval": "30s",
    "$namespace": ".*",
}
"""As the charts fill them in (integration/charts/test_chart_dashboards), and as Grafana does."""


def filled(expression: str) -> str:
    for name, value in FILLED.items():
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
        for job, make in JOBS.items():
            server = probe_server.serve({"/metrics": scraped(make(trace_id="a" * 32))}, 0, "127.0.0.1")
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
