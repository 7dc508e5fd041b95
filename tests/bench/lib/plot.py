"""Pictures of figures: panels of bars, one panel for each measure; and how any picture is saved."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.fonttype"] = "none"  # text stays text

import matplotlib.pyplot as plt  # noqa: E402  after the choice of what draws
from tests.bench.lib.report import kind_name, number  # noqa: E402

OURS = "spoke-jobs"
_CAPTION_CHARACTERS = 150
"""The length of the caption's lines, which fit the picture's width."""
_OURS, _OTHERS = ("#0b6e4f", "#7fc8a9"), ("#4a5568", "#a9b4c2")


@dataclass(frozen=True, slots=True)
class Panel:
    """One measure."""

    title: str
    left: float
    """Where its scale begins; a bar that would end before is drawn to here."""
    right: float
    logarithmic: bool


@dataclass(frozen=True, slots=True)
class Bars:
    """A system with one kind of job: a bar in each panel."""

    label: str
    duration_ms: int
    values: tuple[float, ...]


def draw(rows: Sequence[Bars], panels: Sequence[Panel], path: Path, caption: str, *, height: float) -> None:
    """Write an SVG of four panels."""
    labels = list(dict.fromkeys(row.label for row in rows))
    kinds = sorted({row.duration_ms for row in rows})
    figure, axes = plt.subplots(2, 2, figsize=(12, height), sharey=True, layout="constrained")
    for number_of_panel, (panel, axis) in enumerate(zip(panels, axes.flat, strict=True)):
        for row in rows:
            kind = kinds.index(row.duration_ms)
            shades = _OURS if row.label.startswith(OURS) else _OTHERS
            place = labels.index(row.label) + (kind - (len(kinds) - 1) / 2) * 0.4
            value = row.values[number_of_panel]
            shown = max(value, panel.left)
            axis.barh(place, shown, height=0.38, color=shades[kind % 2])
            axis.annotate(
                f"{number(value)}  {kind_name(row.duration_ms)}",
                (shown, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
            )
        if panel.logarithmic:
            axis.set_xscale("log")
        axis.set_xlim(panel.left, panel.right)
        axis.set_title(panel.title, loc="left", fontsize=11)
        axis.set_yticks(range(len(labels)), labels)
        axis.spines[["top", "right"]].set_visible(False)
    axes.flat[0].invert_yaxis()  # shared: the first system at the top
    figure.supxlabel(textwrap.fill(caption, _CAPTION_CHARACTERS), fontsize=8.5, color="#555555")
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write an SVG; the same figures make the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
