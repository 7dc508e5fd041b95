"""Write a dashboard as Grafana reads it: only the fields that differ from Grafana's defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from scripts.dashboards.board_model import Board, Panel, Query, Row, Shape, Variable

_WIDTH = 24
_HEIGHTS = {Shape.LINES: 8, Shape.NUMBER: 4}
_ABREAST = {Shape.LINES: 3, Shape.NUMBER: 6}
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA = 39
"""The version of the format: that of Grafana 10.4 and later, which read it."""


def to_json(board: Board) -> str:
    """Return the dashboard as JSON."""
    return json.dumps(_board(board), indent=1, ensure_ascii=True)


def _board(board: Board) -> dict[str, Any]:
    return {
        "uid": f"spoke-{board.name}-@UID@",
        "title": board.title,
        "description": board.text,
        "tags": ["spoke-jobs"],
        "schemaVersion": _SCHEMA,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "annotations": {"list": []},
        "templating": {"list": [_source(), *map(_variable, board.variables)]},
        "panels": list(_panels(board)),
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(board: Board) -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row in board.rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1},
            "panels": [],
        }
        top += 1
        for line in _lines(row):
            width, height = _WIDTH // len(line), max(_HEIGHTS[panel.shape] for panel in line)
            for place, panel in enumerate(line):
                number += 1
                yield _panel(panel, number, {"x": place * width, "y": top, "w": width, "h": height})
            top += height


def _lines(row: Row) -> Iterator[list[Panel]]:
    """Yield the panels that are beside each other."""
    line: list[Panel] = []
    for panel in row.panels:
        if line and (panel.shape is not line[0].shape or len(line) == _ABREAST[panel.shape]):
            yield line
            line = []
        line.append(panel)
    yield line


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": number,
        "type": panel.shape.value,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit.value, "min": 0}, "overrides": []},
        "targets": [_target(query, reference) for query, reference in zip(panel.queries, "ABCDEFGH", strict=False)],
    }
    if panel.shape is Shape.NUMBER:
        return shown | {"options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none"}}
    return shown | {"options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}}


def _target(query: Query, reference: str) -> dict[str, Any]:
    target: dict[str, Any] = {
        "refId": reference,
        "datasource": _SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
    }
    return target | {"exemplar": True} if query.exemplars else target
