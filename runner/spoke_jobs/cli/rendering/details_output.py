"""Print what `show` says of a job (:mod:`spoke_jobs.explain.job_details`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spoke_jobs.cli.printing import new_console, print_row
from spoke_jobs.cli.rendering.job_table import STYLES
from spoke_jobs.explain.job_details import ATTEMPT_HEADINGS, Details, state_text
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.reading.dependency_queries import LINKS, Link
from spoke_jobs.model import AttemptState

if TYPE_CHECKING:  # importing rich takes longer than most commands
    from rich.tree import Tree

_OF_THE_CLUSTER = ("NODE", "EXIT")
_STATE_STYLES = {
    "starting": "yellow",
    AttemptState.RUNNING.value: "cyan",
    AttemptState.SUCCEEDED.value: "green",
    AttemptState.FAILED.value: "red",
}


def print_plain(shown: Details) -> None:
    """Print lines for programs: the kind of line, then its fields, separated by tabs."""
    for name, value in (("id", str(shown.job.id)), ("type", line(shown.job.job_type)), *shown.facts):
        print_row("job", name, value)
    for name, value in shown.options:
        print_row("option", name, value)
    for cells in shown.attempts:
        print_row("attempt", *cells)
    for number, text in shown.used:
        print_row("used", str(number), text)
    for depth, link in shown.needs:
        if link is not None:
            print_row("needs", str(depth), str(link.needs_id), line(link.job_type), state_text(link))
    for number, text in shown.said:
        print_row("said", str(number), text)
    for text in shown.payload.splitlines():
        print_row("payload", text)
    for text in shown.tail:
        print_row("output", text)


def needs_tree(needs: Sequence[tuple[int, Link | None]]) -> Tree:
    """Draw what a job depends on, as :func:`.job_details.tree` walks through it."""
    from rich.text import Text
    from rich.tree import Tree

    root = Tree("", guide_style="dim", hide_root=True)
    path = [root]
    for depth, link in needs:
        shown = Text(f"... and more than {LINKS} in all", "dim")
        if link is not None:
            state = (state_text(link), STYLES[link.state])
            shown = Text.assemble(f"job {link.needs_id}  {line(link.job_type)}  ", state)
        path[depth + 1 :] = [path[depth].add(shown)]
    return root


def print_details(shown: Details) -> None:
    """Print for a person, in colors."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    job = shown.job

    def pairs(rows: Sequence[tuple[str, str]]) -> Padding:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True, min_width=13)
        grid.add_column(overflow="fold")
        for name, value in rows:
            grid.add_row(name, Text(value, STYLES[job.state] if name == "state" else ""))
        return Padding(grid, (0, 0, 0, 2))

    parts: list[Any] = [
        Text.assemble((f"job {job.id}", "bold"), "  ", (line(job.job_type), "bold")),
        pairs(shown.facts),
    ]
    if shown.needs:
        parts += [Text("\nruns after", "bold"), Padding(needs_tree(shown.needs), (0, 0, 0, 2))]
    parts += [Text("\noptions", "bold"), pairs(shown.options)]
    if shown.attempts:
        table = Table(box=None, pad_edge=False, header_style="dim")
        rows = [dict(zip(ATTEMPT_HEADINGS, cells, strict=True)) for cells in shown.attempts]
        headings = [
            heading
            for heading in ATTEMPT_HEADINGS
            if heading not in _OF_THE_CLUSTER or any(row[heading] != "-" for row in rows)
        ]
        for heading in headings:
            numeric = heading in ("RUN", "TRY", "TOOK", "EXIT")
            table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            styles = {"STATE": _STATE_STYLES[row["STATE"]], "CAUSE": "red"}
            table.add_row(*(Text(row[heading], styles.get(heading, "")) for heading in headings))
        parts += [Text("\nattempts", "bold"), Padding(table, (0, 0, 0, 2))]
    if shown.used:
        parts += [Text("\nused", "bold"), pairs([(f"attempt {number}", text) for number, text in shown.used])]
    if shown.said:
        said = [(f"attempt {number}", text) for number, text in shown.said]
        parts += [Text("\nKubernetes said", "bold"), pairs(said)]
    for heading, texts in (("payload", shown.payload.splitlines()), (f"output of attempt {shown.tail_of}", shown.tail)):
        if texts:
            parts += [Text(f"\n{heading}", "bold"), Padding(Text("\n".join(texts)), (0, 0, 0, 2))]
    new_console().print(Group(*parts))
