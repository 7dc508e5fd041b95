"""Pure: what a run measured, as the line for programs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

OURS, PLAIN, SHELL = "spoke-jobs", "plain Job", "shell Job"
STANDBY, WORKER = "lane standby", "lane worker"
Figures = Mapping[str, Any]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so great a share is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def middle(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure; one that is missing somewhere is nought there."""
    names = dict.fromkeys(name for item in found for name in item)
    return {name: statistics.median(item.get(name, 0.0) for item in found) for name in names}


def summary(figures: Figures) -> dict[str, float]:
    """The line for programs."""
    line, bursts, idle = figures["to_first_line"], figures["bursts"], figures["idle"]

    def ratio(measure: str) -> float:
        pairs = zip(bursts["plain"], bursts["spoke-jobs"], strict=True)
        return statistics.median(plain[measure] / ours[measure] for plain, ours in pairs)

    count = figures["settings"]["burst"]
    return {
        "launch_p50_ratio": round(percentile(line[OURS], 0.5) / percentile(line[PLAIN], 0.5), 3),
        "launch_p99_ratio": round(percentile(line[OURS], 0.99) / percentile(line[PLAIN], 0.99), 3),
        "shell_floor_p50_s": round(percentile(line[SHELL], 0.5), 3),
        "burst_created_ratio": round(ratio("created"), 3),
        "burst_finished_ratio": round(ratio("finished"), 3),
        "textbook_per_s": round(count / statistics.median(item["created"] for item in bursts["textbook"]), 1),
        "operator_mb": round(idle["megabytes"], 1),
        "idle_cpu_percent": round(idle["cpu_percent"], 2),
        "restart_s": round(idle["restart_seconds"], 2),
        "startup_s": round(statistics.median(figures["startup"]), 3),
        "writes_per_attempt": round(figures["writes_per_attempt"], 2),
        **(of_lanes(figures["lanes"]) if "lanes" in figures else {}),
    }


def of_lanes(lanes: Mapping[str, Any]) -> dict[str, float]:
    """The lanes' part of the line."""
    line, short = lanes["to_first_line"], lanes["short"]

    def ratio(kind: str, share: float) -> float:
        return round(percentile(line[kind], share) / percentile(line[PLAIN], share), 3)

    return {
        "standby_p50_ratio": ratio(STANDBY, 0.5),
        "standby_p99_ratio": ratio(STANDBY, 0.99),
        "worker_p50_ratio": ratio(WORKER, 0.5),
        "short_jobs_ratio": round(short[WORKER] / short[PLAIN], 3),
        "standby_idle_mib": round(lanes["idle_mib"], 1),
    }
