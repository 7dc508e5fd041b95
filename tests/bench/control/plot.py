"""The figures as a picture: claims by the number of limits, and the dispatch of a batch by system.

`python -m tests.bench.control.plot PICTURE`, in the environment that draws; the figures come in as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.bench.lib.plot import plt, save
from tests.bench.lib.report import number

_OURS, _OTHERS, _TEXT = "#0b6e4f", "#a9b4c2", "#555555"


def draw(figures: dict[str, Any], path: Path) -> None:
    """Write an SVG."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.6), layout="constrained")
    claims = [claim for claim in figures["claims"] if claim["size"] == 1]
    names = ["no code" if claim["limits"] is None else f"{claim['limits']:,} limits" for claim in claims]
    _bars(left, names, [claim["per_second"] for claim in claims], [_OURS] * len(claims))
    left.set_title("Claims a second beside limits of others: more is better", loc="left", fontsize=11)
    seconds = {system: measures["batch_dispatch_s_10k"] for system, measures in figures["others"].items()}
    shades = [_OURS if system == "spoke-jobs" else _OTHERS for system in seconds]
    _bars(right, list(seconds), list(seconds.values()), shades)
    right.set_title("Dispatch of a batch of 10,000, seconds: less is better", loc="left", fontsize=11)
    figure.supxlabel(figures["caption"], fontsize=8.5, color=_TEXT)
    save(figure, path)


def _bars(axis: Any, names: list[str], values: list[float], shades: list[str]) -> None:
    axis.barh(range(len(names)), values, height=0.6, color=shades)
    for place, value in enumerate(values):
        axis.annotate(number(value), (value, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlim(0, 1.15 * max(values))
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw(json.load(sys.stdin), Path(sys.argv[1]))
