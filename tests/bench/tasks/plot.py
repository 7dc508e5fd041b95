"""The figures as a picture: panels of bars, one for each measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "tasks"  # the same figures make the same file
mpl.rcParams["svg.fonttype"] = "none"  # text stays text

import matplotlib.pyplot as plt  # noqa: E402  after the choice of what draws
from tests.bench.ledger.report import number  # noqa: E402
from tests.bench.tasks.figures import OURS, Row, task_name  # noqa: E402

_OURS, _OTHERS = ("#0b6e4f", "#7fc8a9"), ("#4a5568", "#a9b4c2")
_PANELS = (
    ("Dispatched a second, logarithmic: more is better", "dispatched_per_s"),
    ("Executed a second, logarithmic: more is better", "executed_per_s"),
    ("Dispatch to done, p50, ms, logarithmic: less is better", "p50_ms"),
    ("Processor seconds for 10,000, logarithmic: less is better", "cpu_s_per_10k"),
)


def draw(rows: Sequence[Row], path: Path, caption: str) -> None:
    """Write an SVG."""
    labels = list(dict.fromkeys(row.system for row in rows))
    kinds = sorted({row.task_ms for row in rows})
    figure, panels = plt.subplots(2, 2, figsize=(12, 9.5), sharey=True, layout="constrained")
    for panel, (title, measure) in zip(panels.flat, _PANELS, strict=True):
        values = [getattr(row, measure) for row in rows]
        least = min(values) / 2
        for row in rows:
            kind = kinds.index(row.task_ms)
            shades = _OURS if row.system.startswith(OURS) else _OTHERS
            place = labels.index(row.system) + (kind - (len(kinds) - 1) / 2) * 0.4
            value = getattr(row, measure)
            panel.barh(place, value, height=0.38, color=shades[kind % 2])
            panel.annotate(
                f"{number(value)}  {task_name(row.task_ms)}",
                (value, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
            )
        panel.set_xscale("log")
        panel.set_xlim(least, 10 * max(values))
        panel.set_title(title, loc="left", fontsize=11)
        panel.set_yticks(range(len(labels)), labels)
        panel.spines[["top", "right"]].set_visible(False)
    panels.flat[0].invert_yaxis()  # shared: the first system at the top
    figure.supxlabel(caption, fontsize=8.5, color="#555555")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
