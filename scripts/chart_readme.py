"""A chart's README with the list of its values, from the comments in values.yaml. usage: chart_readme FOLDER

The part above the heading `## Values` is written by hand. This script generates the rest.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

HEADING = "## Values\n"


@dataclass(frozen=True, slots=True)
class Row:
    """A value, or a group of them."""

    path: str
    default: str
    """As JSON; empty for a group."""
    meaning: str


def rows(text: str) -> Iterator[Row]:
    """Yield all values in their order, and the groups that have a comment."""
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(document, yaml.MappingNode):
        raise TypeError("values.yaml holds no mapping")
    yield from _rows_in(document, text.splitlines(), "")


def _rows_in(mapping: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Row]:
    for key, value in mapping.value:
        path = f"{prefix}{key.value}"
        meaning = comment_above(lines, key.start_mark.line, key.start_mark.column)
        if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
            if meaning:
                yield Row(path, "", meaning)
            yield from _rows_in(value, lines, f"{path}.")
        else:
            yield Row(path, json.dumps(yaml.safe_load(yaml.serialize(value))), meaning)


def comment_above(lines: list[str], line: int, column: int) -> str:
    """Return the comment directly above a key, in the same column."""
    mark = " " * column + "#"
    first = line
    while first and lines[first - 1].startswith(mark):
        first -= 1
    return " ".join(text.strip().removeprefix("#").strip() for text in lines[first:line])


def entries(text: str) -> str:
    """Format the rows as a Markdown list."""
    return "\n".join(map(_entry, rows(text))) + "\n"


def _entry(row: Row) -> str:
    name = f"- `{row.path}`" + (f" (default `{row.default}`)" if row.default else "")
    text = f"{name}: {row.meaning.replace('<', '&lt;')}" if row.meaning else name
    return textwrap.fill(text, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def main() -> None:
    """Print the README of the chart in the folder."""
    (folder,) = map(Path, sys.argv[1:])
    by_hand, found, _ = (folder / "README.md").read_text().partition(HEADING)
    if not found:
        sys.exit(f"{folder}/README.md has no line {HEADING.strip()!r}: put it where the list is to begin")
    sys.stdout.write(f"{by_hand}{HEADING}\n{entries((folder / 'values.yaml').read_text())}")


if __name__ == "__main__":
    main()
