"""The only module of the command line that prints.

Jobs, pods and servers wrote parts of what is printed. Each function here prints control characters as visible escapes,
so that no text can command a terminal, reorder what people read, or hide in it. ruff refuses other ways to print
(``print``, typer's and rich's) in the packages of the command line.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from spoke_jobs.shared.clean_text import visible, visible_in_a_line, visible_json

if TYPE_CHECKING:  # importing rich takes longer than most commands
    from pydantic import BaseModel
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.table import Table

_RED, _BOLD, _DIM, _RESET = "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


def print_text(text: str, *, dim: bool = False) -> None:
    """Print a text of one or several lines.

    :param dim: print it in a fainter color.
    """
    shown = visible(text)
    print(f"{_DIM}{shown}{_RESET}" if dim and sys.stdout.isatty() else shown, flush=True)


def print_texts(texts: Iterable[str]) -> None:
    """Print each text on a line of its own, or nothing if there is none."""
    if shown := "\n".join(texts):
        print_text(shown)


def print_row(*fields: object) -> None:
    """Print one line of fields, separated by tabs."""
    print(*(visible_in_a_line(str(field)) for field in fields), sep="\t", flush=True)


def print_json(document: str) -> None:
    """Print a JSON document. Its value does not change."""
    print(visible_json(document))


def print_document(document: BaseModel) -> None:
    """Print a JSON document of :mod:`spoke_jobs.explain`."""
    print_json(document.model_dump_json(indent=2))


def print_unchanged(text: str) -> None:
    """Print a line as it is, for `logs --raw`."""
    print(text, flush=True)


def print_note(text: str) -> None:
    """Print a line to standard error."""
    print(visible(text), file=sys.stderr, flush=True)


def print_error(message: str) -> None:
    """Print an error to standard error."""
    word = f"{_RED}{_BOLD}error:{_RESET}" if sys.stderr.isatty() else "error:"
    print(f"{word} {visible(message)}", file=sys.stderr, flush=True)


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None, /) -> None:
    """Print a traceback to standard error. This is a hook for ``sys.excepthook``."""
    print_note("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"))


def new_console() -> Console:
    """Return a rich console that prints tables and colors, and the control characters of texts as escapes."""
    from rich.console import Console

    class VisibleConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=visible(segment.text))

    # With markup, a text such as `[link=...]` would be a link, and `[/x]` an error.
    return VisibleConsole(highlight=False, markup=False, emoji=False)


def new_table(headings: Iterable[str]) -> Table:
    """Return a rich table without borders. A cell that is too long is cut off."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    return table
