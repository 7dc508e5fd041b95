"""Pure: the figures as a table of Markdown, and for the last line."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.ledger.figures import Row
from tests.bench.lib.report import kind_name, number


def table(rows: Sequence[Row]) -> str:
    """Every figure with its ratio to the baseline."""
    lines = [
        "| system | job | enqueued /s | executed /s | p50 ms | p99 ms |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells = [
            _cell(value, ratio)
            for value, ratio in zip(
                (row.enqueue_per_s, row.execute_per_s, row.p50_ms, row.p99_ms), row.ratios, strict=True
            )
        ]
        lines.append(" | ".join([f"| {row.label}", kind_name(row.job_ms), *cells]) + " |")
    return "\n".join(lines)


def _cell(value: float, ratio: float | None) -> str:
    return number(value) if ratio is None else f"{number(value)} ({ratio:.2f}x)"


def figures(rows: Sequence[Row]) -> list[dict[str, object]]:
    """For programs."""
    return [
        {
            "system": row.system,
            "durability": row.durability,
            "job_ms": row.job_ms,
            "enqueue_per_s": round(row.enqueue_per_s, 1),
            "execute_per_s": round(row.execute_per_s, 1),
            "p50_ms": round(row.p50_ms, 2),
            "p99_ms": round(row.p99_ms, 2),
        }
        for row in rows
    ]
