"""The output of `sizes`: a table for people, and lines with tabs for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from spoke_jobs.explain.sizes import Spread, TypeSize
from spoke_jobs.explain.words import line, memory

if TYPE_CHECKING:  # importing rich takes longer than most commands
    from rich.table import Table

HEADINGS = ("TYPE", "JOBS", "MEMORY", "CPU", "ASKS", "NEEDS")
_AMOUNTS = ("memory", "cpu")


def size_lines(sizes: Sequence[TypeSize]) -> list[str]:
    """Format a line for each type, with cells separated by tabs: memory in bytes, CPU in cores."""
    return ["\t".join(_plain_cells(size)) for size in sizes]


def size_table(sizes: Sequence[TypeSize]) -> Table:
    """Make a table of the types, in the order given."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for size in sizes:
        cells = _cells(size) if size.measured else [line(size.job_type), "0", "-", "-", _asks(size), "nothing measured"]
        table.add_row(*(Text(cell, "dim" if cell == "-" else "") for cell in cells))
    return table


def _cells(size: TypeSize) -> list[str]:
    peak, cores = size.memory_bytes, size.cores
    return [
        line(size.job_type),
        str(size.measured),
        " / ".join(memory(int(value)) for value in (peak.p50, peak.p95, peak.max)) if peak else "-",
        " / ".join(f"{value:.2f}" for value in (cores.p50, cores.p95, cores.max)) if cores else "-",
        _asks(size),
        _amounts(size.needs),
    ]


def _asks(size: TypeSize) -> str:
    return _amounts(size.asks) or "-"


def _amounts(amounts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {line(amounts[name])}" for name in _AMOUNTS if name in amounts)


def _plain_cells(size: TypeSize) -> list[str]:
    def spread(of: Spread | None, digits: int) -> list[str]:
        return [f"{value:.{digits}f}" for value in (of.p50, of.p95, of.max)] if of else ["-"] * 3

    return [
        line(size.job_type),
        str(size.measured),
        *spread(size.memory_bytes, 0),
        *spread(size.cores, 3),
        *(line(amounts.get(name, "")) or "-" for amounts in (size.asks, size.needs) for name in _AMOUNTS),
    ]
