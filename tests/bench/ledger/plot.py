"""The figures as a picture: four panels of bars, one for each measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "ledger"  # the same figures make the same file
mpl.rcParams["svg.fonttype"] = "none"  # text stays text

import matplotlib.pyplot as plt  # noqa: E402  after the choice of what draws
from tests.bench.ledger.figures import Row  # noqa: E402
from tests.bench.ledger.report import job_name, number  # noqa: E402

_OURS, _OTHERS = ("#0b6e4f", "#7fc8a9"), ("#4a5568", "#a9b4c2")
_PANELS = (
    ("Enqueued a second: more is better", "enqueue_per_s"),
    ("Executed a second: more is better", "execute_per_s"),
    ("Commit to start, p50, ms, logarithmic: less is better", "p50_ms"),
    ("Commit to start, p99, ms, logarithmic: less is better", "p99_ms"),
)
_LEAST_MS = 0.1
"""Where the logarithmic scales begin; a job may even begin before its commit's return is seen."""


def draw(rows: Sequence[Row], path: Path, caption: str) -> None:
    """Write an SVG."""
    labels = list(dict.fromkeys(row.label for row in rows))
    kinds = sorted({row.job_ms for row in rows})
    figure, panels = plt.subplots(2, 2, figsize=(12, 8.5), sharey=True, layout="constrained")
    for panel, (title, measure) in zip(panels.flat, _PANELS, strict=True):
        for row in rows:
            kind = kinds.index(row.job_ms)
            shades = _OURS if row.label.startswith("spoke-jobs") else _OTHERS
            place = labels.index(row.label) + (kind - (len(kinds) - 1) / 2) * 0.4
            value = getattr(row, measure)
            shown = max(value, _LEAST_MS) if measure.endswith("_ms") else value
            panel.barh(place, shown, height=0.38, color=shades[kind % 2])
            panel.annotate(
                f"{number(value)}  {job_name(row.job_ms)}",
                (shown, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
            )
        if measure.endswith("_ms"):
            panel.set_xscale("log")
            panel.set_xlim(_LEAST_MS, 8 * max(_LEAST_MS, *(getattr(row, measure) for row in rows)))
        else:
            panel.set_xlim(0, 1.25 * max(getattr(row, measure) for row in rows))
        panel.set_title(title, loc="left", fontsize=11)
        panel.set_yticks(range(len(labels)), labels)
        panel.spines[["top", "right"]].set_visible(False)
    panels.flat[0].invert_yaxis()  # shared: the first system at the top
    figure.supxlabel(caption, fontsize=8.5, color="#555555")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
