"""Pure: the figures as tables of Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.control.figures import Claims, Figures
from tests.bench.lib.report import number

_MEASURES = {
    "batch_dispatch_s_10k": ("dispatch of a batch of 10,000 jobs, s", 2),
    "batch_done_per_s": ("ends of a batch's jobs, /s", 0),
    "done_per_s": ("ends of jobs that belong to none, /s", 0),
    "ticks_per_s": ("due times dispatched, /s", 0),
    "why_all_ms_100k": ("`why` at 100,000 waiting, its queries, ms", 0),
    "why_command_ms_100k": ("the whole command, ms", 0),
}
"""What each measure is called, and its decimals."""


def tables(figures: Figures) -> str:
    """Both tables."""
    return f"{_claims(figures.claims)}\n\n{_others(figures)}"


def _claims(claims: Sequence[Claims]) -> str:
    sizes = sorted({claim.size for claim in claims})
    lines = [
        f"| limits of others | {' | '.join(f'claims of {size}: jobs /s' for size in sizes)} |",
        f"| --- | {' | '.join('---:' for _ in sizes)} |",
    ]
    for limits in dict.fromkeys(claim.limits for claim in claims):
        by_size = {claim.size: claim for claim in claims if claim.limits == limits}
        cells = [f"{number(by_size[size].per_second)} ({by_size[size].ratio:.2f}x)" for size in sizes]
        name = "without the code of limits" if limits is None else f"{limits:,}"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _others(figures: Figures) -> str:
    systems = list(figures.others)
    lines = [f"| | {' | '.join(systems)} |", f"| --- | {' | '.join('---:' for _ in systems)} |"]
    for measure, (name, decimals) in _MEASURES.items():
        cells = [
            f"{figures.others[system][measure]:,.{decimals}f}" if measure in figures.others[system] else ""
            for system in systems
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
