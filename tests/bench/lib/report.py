"""Pure: numbers, the text between two marks of docs/benchmarks.md, the last line."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from tests.bench.lib.settings import REPOSITORY

PAGE = REPOSITORY / "docs/benchmarks.md"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page that is written by a program."""

    suite: str
    command: str
    """What makes it."""

    def spliced(self, page: str, text: str) -> str:
        """The page with the text in place of what stands between the section's marks.

        :raises ValueError: if they aren't there.
        """
        first, last = f"<!-- {self.suite}: made by `{self.command}` -->", f"<!-- {self.suite}: end -->"
        head, begin, rest = page.partition(first)
        _, end, tail = rest.partition(last)
        if not begin or not end:
            raise ValueError(f"the page lacks the line {last if begin else first}")
        return f"{head}{first}\n\n{text.strip()}\n\n{last}{tail}"

    def write(self, text: str) -> None:
        """Into the page."""
        PAGE.write_text(self.spliced(PAGE.read_text(), text))


def number(value: float) -> str:
    """Three figures or so."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def kind_name(duration_ms: int) -> str:
    """How a kind of job is called."""
    return f"{duration_ms} ms" if duration_ms else "no-op"


def conditions(facts: Mapping[str, str]) -> str:
    """List the conditions of a measurement, at most 120 characters a line."""
    return "\n".join(
        textwrap.fill(f"- {name}: {value}", 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for name, value in facts.items()
    )


def last_line(suite: str, figures: Mapping[str, object]) -> str:
    """For programs."""
    return "BENCH " + json.dumps({"suite": suite, **figures})
