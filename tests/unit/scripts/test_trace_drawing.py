"""The picture of a trace, from what Jaeger's API returns."""

from __future__ import annotations

import re
from typing import Any

from scripts.pictures.trace_drawing import draw_trace, in_order, read_trace

SVG = "{http://www.w3.org/2000/svg}"


def text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def span(number: int, parent: int, name: str, start: float, end: float, **more: Any) -> dict[str, Any]:
    """A span with times in milliseconds."""
    nano = {"startTimeUnixNano": str(int(start * 1e6)), "endTimeUnixNano": str(int(end * 1e6))}
    above = {"parentSpanId": f"{parent:016x}"} if parent else {}
    return {"spanId": f"{number:016x}", "name": name, "kind": 1, "status": {}} | nano | above | more


def process(service: str, *spans: dict[str, Any]) -> dict[str, Any]:
    return {"resource": {"attributes": [text("service.name", service)]}, "scopeSpans": [{"spans": list(spans)}]}


FAILED: dict[str, Any] = {"status": {"code": 2}, "attributes": [text("error.type", "ValueError")]}
DOCUMENT = {
    "result": {
        "resourceSpans": [
            process(
                "worker",
                span(5, 2, "process <job>", 600, 1000),
                span(4, 3, "complete", 190, 200),
                span(3, 2, "process <job>", 100, 200, **FAILED),
            ),
            process("web", span(2, 1, "send", 10, 20), span(1, 0, "POST /upload", 0, 25)),
        ]
    }
}


def test_a_span_stands_below_its_parent() -> None:
    rows = [(depth, each.name, each.service) for depth, each in in_order(read_trace(DOCUMENT))]
    assert rows == [
        (0, "POST /upload", "web"),
        (1, "send", "web"),
        (2, "process <job>", "worker"),
        (3, "complete", "worker"),
        (2, "process <job>", "worker"),
    ]


def test_a_span_whose_parent_is_missing_is_a_root() -> None:
    spans = [each for each in read_trace(DOCUMENT) if each.name != "send"]
    assert [depth for depth, _ in in_order(spans)] == [0, 0, 1, 0]


def test_it_says_who_did_what_for_how_long_and_how_it_failed() -> None:
    picture = draw_trace(read_trace(DOCUMENT), "a trace")
    said = re.sub(r"<[^>]*>", "|", picture)
    for expected in (
        "web",
        "worker",
        "POST /upload",
        "process &lt;job&gt;",
        "25 ms",
        "400 ms",
        "ValueError",
        "1000 ms",
    ):
        assert f"|{expected}" in said, expected
    assert picture.count("ValueError") == 1
