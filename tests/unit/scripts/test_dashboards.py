"""The charts' dashboards: their JSON, and that their queries ask for metrics and labels that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from scripts.dashboards.__main__ import BOARDS
from scripts.dashboards.board_model import Board
from scripts.dashboards.grafana_json import to_json

from spoke_jobs.contract.metrics.metric_catalogue import CATALOGUE

ROOT = Path(__file__).parents[3]
CHARTS = {"applications": "spoke-app", "tasks": "spoke-app", "platform": "spoke-operator"}
SERIES = {name: spec for spec in CATALOGUE.values() for name in spec.series}
OF_PROMETHEUS = {"job", "instance", "pod", "namespace", "le"}
"""Labels that each series has, or that a histogram has."""

every_board = pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))


@every_board
def test_the_chart_has_what_the_tables_say(board: Board) -> None:
    file = ROOT / "charts" / CHARTS[board.name] / "files/dashboards" / f"{board.name}.json"
    assert file.read_text() == to_json(board) + "\n", "run `make generate`"


@every_board
def test_queries_ask_for_metrics_that_there_are(board: Board) -> None:
    for query in board.queries:
        named = set(re.findall(r"\b(?:spoke|process)_\w+", query.expression))
        assert named or query.expression.startswith("sum(up{"), query
        assert named <= SERIES.keys()


@every_board
def test_groups_and_legends_use_labels_that_the_metrics_have(board: Board) -> None:
    for query in board.queries:
        metrics = [SERIES[name] for name in re.findall(r"\b(?:spoke|process)_\w+", query.expression)]
        there = OF_PROMETHEUS.union(*(metric.label_names() for metric in metrics))
        groups = {name for group in re.findall(r"by \(([^)]*)\)", query.expression) for name in group.split(", ")}
        assert groups | set(re.findall(r"{{(\w+)}}", query.legend)) <= there, query


def panels(board: Board) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(to_json(board))["panels"]
    return found


@every_board
def test_each_panel_says_what_it_shows_and_shows_all_its_queries(board: Board) -> None:
    shown = [panel for panel in panels(board) if panel["type"] != "row"]
    for panel in shown:
        assert panel["description"].endswith("."), panel["title"]
    assert sum(len(panel["targets"]) for panel in shown) == len(board.queries)


@every_board
def test_grafana_takes_its_uid(board: Board) -> None:
    uid = json.loads(to_json(board))["uid"].replace("@UID@", "0" * 12)
    assert re.fullmatch("[a-zA-Z0-9_-]{1,40}", uid)


@every_board
def test_panels_of_histograms_with_exemplars_ask_for_them_once(board: Board) -> None:
    for panel in (panel for row in board.rows for panel in row.panels):
        named = {name for query in panel.queries for name in re.findall(r"\bspoke_\w+_bucket\b", query.expression)}
        asked = [query for query in panel.queries if query.exemplars]
        assert len(asked) == any(SERIES[name].has_exemplars for name in named), panel.title
    shown = [target for panel in panels(board) for target in panel.get("targets", ())]
    assert sum(target.get("exemplar", False) for target in shown) == sum(query.exemplars for query in board.queries)
