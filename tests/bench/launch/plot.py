"""The figures as a picture: launches one by one, bursts, and who worked in a burst. usage: plot RAW SVG"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.bench.launch.figures import OURS, PLAIN, SHELL, Figures, middle
from tests.bench.launch.usage import IDLE
from tests.bench.lib.plot import plt, save

_COLOURS = {OURS: "#0b6e4f", PLAIN: "#4a5568", SHELL: "#a9b4c2", "plain": "#4a5568", "textbook": "#a9b4c2"}
_PARTS = ("#0b6e4f", "#2b6cb0", "#7fc8a9", "#b7791f", "#805ad5", "#c05621", "#4a5568", "#cbd5e0")


def draw(figures: Figures, path: Path) -> None:
    """Write an SVG."""
    figure, panels = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
    _launches(panels[0], figures)
    _bursts(panels[1], figures)
    _work(panels[2], figures)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def _launches(panel: Any, figures: Figures) -> None:
    """Each launch is a step: at which time what share had begun."""
    for kind, seconds in figures["to_first_line"].items():
        share = [(number + 1) / len(seconds) for number in range(len(seconds))]
        panel.step(sorted(seconds), share, where="post", label=kind, color=_COLOURS[kind])
    panel.set_xlim(left=0)
    panel.set_xlabel("seconds from commit, or creation, to the first line")
    panel.set_ylabel("share of the launches")
    panel.set_title("One launch at a time", loc="left", fontsize=11)
    panel.legend(frameon=False)


def _bursts(panel: Any, figures: Figures) -> None:
    moments = {"submitted": "all submitted", "created": "last Job created", "finished": "last finished"}
    for place, (kind, found) in enumerate(figures["bursts"].items()):
        for number, moment in enumerate(moments):
            value = middle([{moment: item[moment]} for item in found])[moment]
            where = number + (place - 1) * 0.26
            panel.barh(where, value, height=0.24, color=_COLOURS[kind], label=kind if not number else None)
            panel.annotate(f"{value:.1f}", (value, where), (3, 0), textcoords="offset points", va="center", fontsize=8)
    panel.set_yticks(range(len(moments)), list(moments.values()))
    panel.invert_yaxis()
    panel.set_xlabel("seconds")
    panel.set_title(f"A burst of {figures['settings']['burst']:,}", loc="left", fontsize=11)
    panel.legend(frameon=False)


def _work(panel: Any, figures: Figures) -> None:
    """Bars of who worked, one upon the other."""
    kinds = list(figures["bursts"])
    seconds = {kind: middle([item["seconds"] for item in found]) for kind, found in figures["bursts"].items()}
    names = {name for found in seconds.values() for name in found} - {IDLE}
    left = dict.fromkeys(kinds, 0.0)
    largest = sorted(names, key=lambda name: -max(found.get(name, 0.0) for found in seconds.values()))
    for name, colour in zip(largest, _PARTS, strict=False):
        for place, kind in enumerate(kinds):
            value = seconds[kind].get(name, 0.0)
            panel.barh(place, value, left=left[kind], color=colour, height=0.6, label=None if place else name)
            left[kind] += value
    panel.set_yticks(range(len(kinds)), kinds)
    panel.invert_yaxis()
    panel.set_xlabel("processor seconds")
    panel.set_title("Who worked in a burst", loc="left", fontsize=11)
    panel.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
