"""The figures as a picture: four panels of bars, one for each measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.ledger.figures import MEASURES, Row
from tests.bench.lib.plot import Bars, Panel
from tests.bench.lib.plot import draw as draw_bars

_TITLES = (
    "Enqueued a second: more is better",
    "Executed a second: more is better",
    "Commit to start, p50, ms, logarithmic: less is better",
    "Commit to start, p99, ms, logarithmic: less is better",
)
_LEAST_MS = 0.1
"""Where the logarithmic scales begin; a job may even begin before its commit's return is seen."""


def draw(rows: Sequence[Row], path: Path, caption: str) -> None:
    """Write an SVG."""
    bars = [Bars(row.label, row.job_ms, tuple(getattr(row, measure) for measure in MEASURES)) for row in rows]
    panels = [
        Panel(title, _LEAST_MS, 8 * max(_LEAST_MS, *values), logarithmic=True)
        if measure.endswith("_ms")
        else Panel(title, 0, 1.25 * max(values), logarithmic=False)
        for title, measure, values in zip(
            _TITLES, MEASURES, zip(*(row.values for row in bars), strict=True), strict=True
        )
    ]
    draw_bars(bars, panels, path, caption, height=8.5)
