"""The dashboards that the charts install, as Helm renders them."""

from __future__ import annotations

import json
import re

import pytest
from scripts.dashboards.__main__ import BOARDS
from scripts.dashboards.grafana_json import to_json

from .conftest import APP_VALUES, Helm, Object, merged, of_kind

ON: Object = {"monitoring": {"dashboards": {"enabled": True}}}
APP: Object = merged(APP_VALUES, ON) | {"workers": {"main": {}}}
FILLED = {
    "@OPERATOR@": 'namespace="ns",job="rel-spoke-operator"',
    "@JOBS@": 'job="rel-spoke-operator"',
    "@SYNC@": 'namespace="ns",job="rel-spoke-app-sync"',
    "@WORKERS@": 'namespace="ns",job="ns/rel-spoke-app-workers"',
    "@TASKS@": 'namespace="ns",job="rel-spoke-app-tasks"',
}
"""What tests/integration/monitoring evaluates the queries with, too."""


def boards(helm: Helm, chart: str, values: Object, namespace: str = "ns", release: str = "rel") -> dict[str, Object]:
    """The dashboards of the chart's ConfigMaps, by the names of their files."""
    maps = of_kind(helm.render(chart, values, release, namespace=namespace), "ConfigMap")
    return {
        name: json.loads(text) for item in maps for name, text in item.get("data", {}).items() if name.endswith(".json")
    }


@pytest.mark.parametrize(
    ("chart", "values", "expected"),
    [("spoke-operator", ON, ["platform"]), ("spoke-app", APP, ["applications", "tasks"])],
)
def test_a_release_has_its_own_dashboards(helm: Helm, chart: str, values: Object, expected: list[str]) -> None:
    found = boards(helm, chart, values)
    assert list(found) == [f"ns-rel-{chart}-{name}.json" for name in expected]
    for name, board in zip(expected, found.values(), strict=True):
        assert f"ns/rel-{chart}" in board["title"]
        assert not re.search("@[A-Z]+@", json.dumps(board)), "a word was not filled in"
        wanted = json.loads(to_json(BOARDS[name]))
        assert queries(board) == [filled(query) for query in queries(wanted)]


def queries(board: Object) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def filled(query: str) -> str:
    for name, value in FILLED.items():
        query = query.replace(name, value)
    return query


def test_two_releases_have_dashboards_with_different_files_and_uids(helm: Helm) -> None:
    """Grafana reads all files from one folder, and refuses two dashboards with one uid."""
    found = [
        (name, board["uid"])
        for namespace, release in (("ns", "rel"), ("ns", "other"), ("elsewhere", "rel"))
        for name, board in boards(helm, "spoke-app", APP, namespace, release).items()
    ]
    assert len({name for name, _ in found}) == len({uid for _, uid in found}) == len(found) == 6


def test_they_are_off_unless_wanted_and_only_of_what_there_is(helm: Helm) -> None:
    assert boards(helm, "spoke-operator", {}) == boards(helm, "spoke-app", APP_VALUES) == {}
    nothing = merged(APP, {"sync": {"enabled": False}, "tasks": {"enabled": False}}) | {"workers": {}}
    assert boards(helm, "spoke-app", nothing) == {}
    only_tasks = merged(APP, {"sync": {"enabled": False}}) | {"workers": {}}
    assert list(boards(helm, "spoke-app", only_tasks)) == ["ns-rel-spoke-app-tasks.json"]


@pytest.mark.parametrize(("chart", "values"), [("spoke-operator", ON), ("spoke-app", APP)])
def test_grafana_s_sidecar_finds_them_by_their_label(helm: Helm, chart: str, values: Object) -> None:
    given = {
        "labels": {"grafana_dashboard": "yes", "app.kubernetes.io/name": "wrong"},
        "annotations": {"folder": "Jobs"},
    }
    for more, label, notes in (({}, "1", None), (given, "yes", {"folder": "Jobs"})):
        wanted = merged(values, {"monitoring": {"dashboards": more}})
        (item,) = [
            item
            for item in of_kind(helm.render(chart, wanted), "ConfigMap")
            if item["metadata"]["name"] == f"rel-{chart}-dashboards"
        ]
        assert item["metadata"]["labels"]["grafana_dashboard"] == label
        assert item["metadata"]["labels"]["app.kubernetes.io/name"] == chart
        assert item["metadata"].get("annotations") == notes
