"""Pure: from measurements to figures. What draws them imports this, and has no ledger."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.lib.figures import percentile

PAGE, FILTER = "page", "filter"
"""The kinds of addresses."""
ALL, ONE, SMALL = "all", "one", "small"
"""The viewers: of all organizations, of one with some 1,000 jobs of 10 million, and of one with 20 jobs."""

AIM_MS = 100.0
"""Of the server's time for a page, at p95."""
STREAM_AIM_PERCENT = 20.0
"""Of a core, for the streams of all viewers."""
CLAIMS_AIM = 0.98
"""The least of the claims' speed that is left beside the dashboard's load."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What was measured of one address."""

    viewer: str
    kind: str
    name: str
    path: str
    milliseconds: Sequence[float]
    bytes: int
    """Of the last answer."""
    wrong: int
    """How many answers had another status than they should have; most say that the database took too long."""

    @property
    def p50(self) -> float:
        """The median."""
        return percentile(self.milliseconds, 50)

    @property
    def p95(self) -> float:
        """By interpolation."""
        return percentile(self.milliseconds, 95)

    @property
    def worst(self) -> float:
        """The longest."""
        return max(self.milliseconds)

    @property
    def is_over(self) -> bool:
        """Whether it misses the aim. An answer that is another page does so, however soon it comes."""
        return self.p95 > AIM_MS or self.wrong > 0


def times_of(figures: Mapping[str, Any]) -> list[Timed]:
    """Read the times of addresses from a run's figures."""
    return [Timed(**each) for each in figures.get("pages", ())]


def slowest(times: Iterable[Timed], kind: str) -> Timed | None:
    """Return the address of a kind with the highest p95; None if none was measured."""
    return max((each for each in times if each.kind == kind), key=lambda each: each.p95, default=None)


def delays(changes: Sequence[float], events: Iterable[Sequence[float]]) -> list[float]:
    """Return how long after each change each viewer's next event came. Changes after their last event are left out.

    :param changes: when each was committed.
    :param events: when each came, by viewer, in order.
    """
    found = []
    for of_viewer in events:
        for change in changes:
            place = bisect.bisect_left(of_viewer, change)
            if place < len(of_viewer):
                found.append(of_viewer[place] - change)
    return found


def claims_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return what of the claims' speed is left beside the load: the median over pairs of without and with it."""
    return statistics.median(with_load / without for without, with_load in pairs)


def for_programs(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of the last line. What was not measured is left out."""
    line: dict[str, Any] = {"rows": figures["settings"]["rows"]}
    times = times_of(figures)
    for kind in (PAGE, FILTER):
        if (found := slowest(times, kind)) is not None:
            line[f"{kind}_p95_ms"] = round(found.p95, 1)
            line[f"{kind}s_over"] = sum(each.is_over for each in times if each.kind == kind)
            line[f"{kind}s"] = sum(each.kind == kind for each in times)
    if "stream" in figures:
        line["stream_cpu_percent"] = round(figures["stream"]["cpu_percent"], 1)
        line["stream_told_p95_s"] = round(figures["stream"]["told_p95"], 2)
    if "claims" in figures:
        line["claims_ratio"] = round(claims_ratio(figures["claims"]["pairs"]), 3)
    if "timeout" in figures:
        line["timeout_said"] = figures["timeout"]["said"]
        line["timeout_s"] = round(figures["timeout"]["seconds"], 2)
    return line
