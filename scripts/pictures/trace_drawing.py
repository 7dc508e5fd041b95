"""Draw a trace as an SVG: a row for each span, below its parent, with a bar over the time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

_FAILED = 2
"""The code of the status `Error`."""
_WIDTH, _LABELS, _MARGIN, _ROW, _HEAD = 1000, 330, 16, 26, 64
_BARS = _WIDTH - _LABELS - 2 * _MARGIN - 90
_INDENT = 16
_COLORS = ("#58a6ff", "#3fb950", "#d29922", "#bc8cff")
_STYLES = (
    "text{font:14px -apple-system,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif;fill:#d1d7e0}"
    ".d{fill:#7d8590;font-size:12px}.e{fill:#ff7b72}.l{stroke:#30363d}"
)


@dataclass(frozen=True, slots=True)
class ShownSpan:
    """A span as a collector returns it. Times are in nanoseconds since 1970."""

    id: str
    parent: str
    """Empty for a root."""
    service: str
    name: str
    start: int
    end: int
    error: str
    """The type of the error; empty if it did not fail."""


def read_trace(document: Mapping[str, Any]) -> list[ShownSpan]:
    """Read the answer of Jaeger's API, which has the spans as in OTLP's JSON."""
    return [
        _span(_attributes(each.get("resource", {})).get("service.name", ""), span)
        for each in document["result"]["resourceSpans"]
        for scope in each["scopeSpans"]
        for span in scope["spans"]
    ]


def _span(service: str, span: Mapping[str, Any]) -> ShownSpan:
    error = _attributes(span).get("error.type", "error") if span.get("status", {}).get("code") == _FAILED else ""
    start, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
    return ShownSpan(span["spanId"], span.get("parentSpanId", ""), service, span["name"], start, end, error)


def _attributes(item: Mapping[str, Any]) -> dict[str, str]:
    return {each["key"]: each["value"].get("stringValue", "") for each in item.get("attributes", ())}


def in_order(spans: Sequence[ShownSpan]) -> Iterator[tuple[int, ShownSpan]]:
    """Yield the spans with their depths: each parent before its children, which follow by the time of their start."""
    known = {span.id for span in spans}
    children: dict[str, list[ShownSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start):
        children.setdefault(span.parent if span.parent in known else "", []).append(span)
    left = [(0, span) for span in reversed(children.get("", ()))]
    while left:
        depth, span = left.pop()
        yield depth, span
        left += [(depth + 1, child) for child in reversed(children.get(span.id, ()))]


def draw_trace(spans: Sequence[ShownSpan], title: str) -> str:
    """Return the picture as XML."""
    rows = list(in_order(spans))
    begin, end = min(span.start for span in spans), max(span.end for span in spans)
    services = list(dict.fromkeys(span.service for _, span in rows))
    colors = dict(zip(services, _COLORS * len(services), strict=False))
    height = _HEAD + len(rows) * _ROW + _MARGIN
    box = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLES}</style>",
        f'<rect x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1}" rx="8" fill="#0d1117" stroke="#6e7681"/>',
        *_legend(colors),
        *_ticks((end - begin) / 1e6, height),
    ]
    for number, (depth, span) in enumerate(rows):
        lines += _row(depth, span, _HEAD + number * _ROW, begin, end - begin, colors[span.service])
    return "\n".join([*lines, "</svg>"]) + "\n"


def _legend(colors: Mapping[str, str]) -> Iterable[str]:
    for number, (service, color) in enumerate(colors.items()):
        x = _MARGIN + number * 110
        yield f'<rect x="{x}" y="16" width="12" height="12" rx="2" fill="{color}"/>'
        yield f'<text x="{x + 18}" y="27">{escape(service)}</text>'


def _ticks(milliseconds: float, height: int) -> Iterable[str]:
    for part in range(5):
        x = _LABELS + _BARS * part / 4
        yield f'<line x1="{x:g}" y1="{_HEAD - 6}" x2="{x:g}" y2="{height - _MARGIN}" class="l"/>'
        yield f'<text x="{x:g}" y="{_HEAD - 12}" text-anchor="middle" class="d">{_time(milliseconds * part / 4)}</text>'


def _row(depth: int, span: ShownSpan, top: int, begin: int, lasts: int, color: str) -> Iterable[str]:
    left = _LABELS + _BARS * (span.start - begin) / lasts
    width = max(_BARS * (span.end - span.start) / lasts, 2)
    edge = ' stroke="#ff7b72" stroke-width="2"' if span.error else ""
    said = _time((span.end - span.start) / 1e6)
    error = f' <tspan class="e">{escape(span.error)}</tspan>' if span.error else ""
    yield f'<text x="{_MARGIN + depth * _INDENT}" y="{top + 17}">{escape(span.name)}</text>'
    yield f'<rect x="{left:.1f}" y="{top + 5}" width="{width:.1f}" height="15" rx="2" fill="{color}"{edge}/>'
    yield f'<text x="{left + width + 6:.1f}" y="{top + 17}" class="d">{said}{error}</text>'


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds >= 1 or not milliseconds else f"{milliseconds:.1f} ms"
