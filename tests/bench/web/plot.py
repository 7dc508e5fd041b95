"""The figures as a picture: the pages, and the slowest filters, at p95. usage: plot RAW SVG"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.lib.plot import plt, save
from tests.bench.lib.report import number
from tests.bench.web.figures import AIM_MS, ALL, FILTER, PAGE, Timed, times_of

_SHOWN = 24
"""The slowest of each kind."""
_WITHIN, _OVER, _TEXT = "#0b6e4f", "#c05621", "#555555"


def draw(figures: dict[str, Any], path: Path) -> None:
    """Write an SVG."""
    times = times_of(figures)
    figure, panels = plt.subplots(1, 2, figsize=(13, 7.5), layout="constrained")
    for panel, kind, title in ((panels[0], PAGE, "pages"), (panels[1], FILTER, "filters")):
        slowest = sorted((each for each in times if each.kind == kind), key=lambda each: -each.p95)[:_SHOWN]
        _bars(panel, slowest)
        panel.set_title(f"The slowest {title}, p95 in ms; the aim is {AIM_MS:g}", loc="left", fontsize=11)
    figure.supxlabel(figures["caption"], fontsize=8.5, color=_TEXT)
    save(figure, path)


def _bars(panel: Any, times: Sequence[Timed]) -> None:
    values = [each.p95 for each in times]
    panel.barh(range(len(times)), values, height=0.7, color=[_OVER if each.is_over else _WITHIN for each in times])
    for place, value in enumerate(values):
        panel.annotate(number(value), (value, place), (4, 0), textcoords="offset points", va="center", fontsize=7.5)
    names = [each.name if each.viewer == ALL else f"{each.name} (viewer: {each.viewer})" for each in times]
    panel.set_yticks(range(len(times)), names, fontsize=7.5)
    panel.set_xscale("log")
    panel.set_xlim(1, 2 * max(values, default=1.0))
    panel.axvline(AIM_MS, color=_TEXT, linewidth=0.8)
    panel.invert_yaxis()
    panel.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
