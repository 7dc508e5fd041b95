"""The figures as a picture: panels of bars, one for each measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.lib.plot import Bars, Panel
from tests.bench.lib.plot import draw as draw_bars
from tests.bench.tasks.figures import Row

_TITLES = (
    "Dispatched a second, logarithmic: more is better",
    "Executed a second, logarithmic: more is better",
    "Dispatch to done, p50, ms, logarithmic: less is better",
    "Processor seconds for 10,000, logarithmic: less is better",
)


def draw(rows: Sequence[Row], path: Path, caption: str) -> None:
    """Write an SVG."""
    bars = [
        Bars(row.system, row.task_ms, (row.dispatched_per_s, row.executed_per_s, row.p50_ms, row.cpu_s_per_10k))
        for row in rows
    ]
    panels = [
        Panel(title, min(values) / 2, 10 * max(values), logarithmic=True)
        for title, values in zip(_TITLES, zip(*(row.values for row in bars), strict=True), strict=True)
    ]
    draw_bars(bars, panels, path, caption, height=9.5)
