"""Pure: from measurements to figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

OURS = "spoke-jobs"


@dataclass(frozen=True, slots=True)
class Claims:
    """Claims of one size beside some number of limits."""

    limits: int | None
    """None: the claim without the code of limits."""
    size: int
    per_second: float
    """Claimed jobs."""
    ratio: float
    """To claims without limits: the median of the ratios of claims that were made one after the other."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What the report shows."""

    claims: Sequence[Claims]
    others: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The other measures, by system: medians of the rounds."""


def claims_of(times: Mapping[tuple[int | None, int], Sequence[float]]) -> list[Claims]:
    """Return the figures of claims, from the seconds of each claim by the number of limits and the size."""
    return [
        Claims(
            limits,
            size,
            size / statistics.median(seconds),
            statistics.median(base / own for base, own in zip(times[0, size], seconds, strict=True)),
        )
        for (limits, size), seconds in times.items()
    ]


def medians(samples: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the medians of the rounds, by system and measure."""
    found: dict[str, dict[str, list[float]]] = {}
    for sample in samples:
        for system, measures in sample.items():
            for name, value in measures.items():
                found.setdefault(system, {}).setdefault(name, []).append(value)
    return {
        system: {name: statistics.median(values) for name, values in measures.items()}
        for system, measures in found.items()
    }


def for_programs(figures: Figures) -> dict[str, float]:
    """Return the figures of the last line. The ratios of claims are of those of one job."""
    ratio = {claim.limits: claim.ratio for claim in figures.claims if claim.size == 1}
    ours = figures.others[OURS]
    return {
        "claims_ratio_no_limits": round(1 / ratio[None], 3),
        "claims_ratio_10_limits": round(ratio[10], 3),
        "claims_ratio_1000_limits": round(ratio[1000], 3),
        "ticks_per_s": round(ours["ticks_per_s"], 1),
        "batch_dispatch_s_10k": round(ours["batch_dispatch_s_10k"], 3),
        "batch_done_per_s": round(ours["batch_done_per_s"], 1),
        "why_all_ms_100k": round(ours["why_all_ms_100k"], 1),
    }
