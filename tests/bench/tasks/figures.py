"""Pure: from measurements to rows, to the table, and to figures for programs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.lib.figures import percentile
from tests.bench.lib.report import kind_name, number

OURS = "spoke-jobs"


@dataclass(frozen=True, slots=True)
class Sample:
    """One round's measurements of one system with one kind of task."""

    system: str
    durability: str
    task_ms: int
    round: int
    dispatched_per_s: float
    executed_per_s: float
    cpu_s_per_10k: float
    latencies_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """All rounds of one system with one kind of task: the medians of the rounds."""

    system: str
    durability: str
    task_ms: int
    dispatched_per_s: float
    executed_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_10k: float


def rows(samples: Sequence[Sample]) -> list[Row]:
    """One for each system and kind of task, in the order in which they first appear."""
    groups: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.system, sample.task_ms), []).append(sample)
    return [
        Row(
            system,
            group[0].durability,
            task_ms,
            statistics.median(sample.dispatched_per_s for sample in group),
            statistics.median(sample.executed_per_s for sample in group),
            statistics.median(percentile(sample.latencies_ms, 50) for sample in group),
            statistics.median(percentile(sample.latencies_ms, 99) for sample in group),
            statistics.median(sample.cpu_s_per_10k for sample in group),
        )
        for (system, task_ms), group in groups.items()
    ]


def table(found: Sequence[Row]) -> str:
    """Every figure, grouped by durability; ours with its ratio to the fastest that it is to be compared with."""
    lines = [
        "| durability | system | task | dispatched /s | executed /s | p50 ms | p99 ms | processor s for 10,000 |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in found:
        cells = [
            row.durability,
            row.system,
            kind_name(row.task_ms),
            number(row.dispatched_per_s) + _against(row, found, "dispatched_per_s"),
            number(row.executed_per_s) + _against(row, found, "executed_per_s"),
            number(row.p50_ms),
            number(row.p99_ms),
            number(row.cpu_s_per_10k),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _against(row: Row, found: Sequence[Row], measure: str) -> str:
    """A buffer in memory has no peer of its group: it is held against those whose broker writes no disk."""
    if not row.system.startswith(OURS):
        return ""
    groups = {row.durability} if "memory" not in row.durability else {"broker without fsync"}
    peers = [
        getattr(other, measure)
        for other in found
        if other.durability in groups and other.task_ms == row.task_ms and not other.system.startswith(OURS)
    ]
    return f" ({getattr(row, measure) / max(peers):.2f}x)" if peers else ""


def figures(found: Sequence[Row]) -> list[dict[str, object]]:
    """For programs."""
    return [
        {
            "system": row.system,
            "durability": row.durability,
            "task_ms": row.task_ms,
            "dispatched_per_s": round(row.dispatched_per_s, 1),
            "executed_per_s": round(row.executed_per_s, 1),
            "p50_ms": round(row.p50_ms, 2),
            "p99_ms": round(row.p99_ms, 2),
            "cpu_s_per_10k": round(row.cpu_s_per_10k, 2),
        }
        for row in found
    ]
