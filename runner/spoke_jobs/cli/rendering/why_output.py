"""What `why` prints: one sentence per line."""

from __future__ import annotations

from spoke_jobs.cli.printing import new_console
from spoke_jobs.cli.rendering.job_table import STYLES
from spoke_jobs.explain.reasons import Explanation
from spoke_jobs.explain.words import line, lines
from spoke_jobs.model import JobRequest

_TAIL_LINES = 15


def plain_lines(explanation: Explanation) -> list[str]:
    """Format for programs: each reason's code, sentence and advice, separated by tabs; then lines of output."""
    said = ["\t".join((reason.code, line(reason.text), line(reason.advice))) for reason in explanation.reasons]
    return said + [f"output\t{text}" for text in lines(explanation.output_tail)[-_TAIL_LINES:]]


def print_explanation(job: JobRequest, explanation: Explanation) -> None:
    """Print for a person: each reason, with the advice below it."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = new_console()
    console.print(
        Text.assemble((f"job {job.id}", "bold"), f"  {line(job.job_type)}  ", (job.state.value, STYLES[job.state]))
    )
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for reason in explanation.reasons:
        grid.add_row("  -" if len(explanation.reasons) > 1 else " ", Text(_sentence(reason.text)))
        if reason.advice:
            grid.add_row("", Text.assemble(("→ ", "bold green"), (reason.advice, "green")))
    console.print(grid)
    if tail := lines(explanation.output_tail)[-_TAIL_LINES:]:
        console.print(Text("\n  the output's last lines", "bold"))
        console.print(Padding(Text("\n".join(tail), "dim"), (0, 0, 0, 4)))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
