"""The dashboards' queries, by a real Prometheus that scrapes one process of each kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from scripts.dashboards.__main__ import BOARDS
from scripts.dashboards.board_model import Query, Variable
from tests.metric_scenes import OperatorScene, Scene, SyncScene, TasksScene, WorkerScene
from tests.prometheus import Server, Target, scraping
from tests.waiting import eventually

from spoke_jobs.shared import probe_server
from spoke_jobs.shared.probe_server import Answer

JOBS: dict[str, Callable[[], Scene]] = {
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
QUERIES = {
    f"{board.name}: {panel.title} {query.legend}".strip(): query
    for board in BOARDS.values()
    for row in board.rows
    for panel in row.panels
    for query in panel.queries
}


def filled(expression: str) -> str:
    for name, value in FILLED.items():
        expression = expression.replace(name, value)
    return expression


def scraped(scene: Scene) -> Callable[[], Answer]:
    """Let something happen before each scrape."""

    def answer() -> Answer:
        scene.work()
        return scene.answer()

    return answer


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with ExitStack() as stack:
        targets = []
        for job, make in JOBS.items():
            server = probe_server.serve({"/metrics": scraped(make())}, 0, "127.0.0.1")
            stack.callback(probe_server.close, server)
            targets.append(Target(server.server_port, job, honor_labels=job == "rel-spoke-operator"))
        yield stack.enter_context(scraping(tmp_path_factory.mktemp("prometheus"), targets))


@pytest.mark.parametrize("query", QUERIES.values(), ids=list(QUERIES))
def test_a_query_finds_what_there_is(prometheus: Server, query: Query) -> None:
    expression = filled(query.expression)
    assert not re.search(r"@[A-Z]+@|\$", expression)
    eventually(lambda: prometheus.query(expression), f"values of {expression}")


@pytest.mark.parametrize(
    "variable", [variable for board in BOARDS.values() for variable in board.variables], ids=lambda item: item.name
)
def test_a_choice_has_values(prometheus: Server, variable: Variable) -> None:
    match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable.query)
    assert match
    series, label = filled(match[1]), match[2]
    name, _, selector = series.partition("{")
    eventually(lambda: prometheus.query(f'{name}{{{label}!="",{selector}'), f"values of {label} of {series}")


def test_no_two_panels_of_a_board_have_one_name() -> None:
    queries = [query for board in BOARDS.values() for query in board.queries]
    assert len(queries) == len(QUERIES)
