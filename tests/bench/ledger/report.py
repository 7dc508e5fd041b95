"""Pure: the figures as a table of Markdown, as the text between two markers, as the last line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tests.bench.ledger.figures import Row

BEGIN = "<!-- ledger: made by `make bench` -->"
END = "<!-- ledger: end -->"
_NO_OP = "no-op"


def job_name(job_ms: int) -> str:
    """How a kind of job is called."""
    return f"{job_ms} ms" if job_ms else _NO_OP


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
        lines.append(" | ".join([f"| {row.label}", job_name(row.job_ms), *cells]) + " |")
    return "\n".join(lines)


def _cell(value: float, ratio: float | None) -> str:
    return number(value) if ratio is None else f"{number(value)} ({ratio:.2f}x)"


def number(value: float) -> str:
    """Three figures or so."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def conditions(facts: Mapping[str, str]) -> str:
    """What a reader has to know to believe the table."""
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def spliced(page: str, text: str) -> str:
    """The page with the text in place of what stands between the markers.

    :raises ValueError: if they aren't there.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the line {BEGIN if not begin else END}")
    return f"{head}{BEGIN}\n\n{text.strip()}\n\n{END}{tail}"


def last_line(rows: Sequence[Row]) -> str:
    """For programs."""
    figures = [
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
    return "BENCH " + json.dumps({"suite": "ledger", "rows": figures})
