"""Split a file's text into rows: the delimiter, quoted line ends, empty lines."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from texting.contacts_csv.headings import recognized
from texting.contacts_csv.refusals import NotACsv

DELIMITERS = ",;\t|"
_NAMED_DELIMITER = re.compile(r'"?sep=(.)"?(?:\r\n|\r|\n)', re.IGNORECASE)
_END = "\x00"  # never occurs in the text: decoding has removed every NUL


@dataclass(frozen=True, slots=True)
class Table:
    """A text as rows and columns."""

    text: str = field(repr=False)
    delimiter: str
    headings: tuple[str, ...]
    rows: int
    """The number of rows after the headings, without empty lines."""

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row after the headings with its number, from 1, without rows that have only delimiters."""
        records = _records(self.text, self.delimiter)
        next(records)
        yield from enumerate(records, start=1)


def table_of(text: str) -> Table:
    """Read a text as a table.

    A first line such as ``sep=;``, which some spreadsheets write, sets the delimiter. Otherwise use the one that
    gives the first line the most known columns or, among equals, the most columns.

    :raises NotACsv: if there is no row after the headings, or a quote isn't closed.
    """
    named = _NAMED_DELIMITER.match(text)
    if named and named[1] in DELIMITERS:
        text, delimiter = text[named.end() :], named[1]
    else:
        delimiter = max(DELIMITERS, key=lambda candidate: _promise(text, candidate))
    records = _records(text, delimiter)
    headings = next(records, [])
    # Read the whole file once before anything is loaded, so that a defect near its end also refuses it.
    rows = sum(1 for _ in records)
    if not rows:
        raise NotACsv("the file has headings and no rows. Upload one with a row for each contact")
    return Table(text=text, delimiter=delimiter, headings=tuple(headings), rows=rows)


def _promise(text: str, delimiter: str) -> tuple[int, int]:
    try:
        headings = next(_records(text, delimiter))
    except (StopIteration, NotACsv):
        return (0, 0)
    return (recognized(headings), len(headings))


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the rows that are not empty, beginning with the headings.

    An extra line is appended to the text. If the reader does not return it as a row of its own, a quote is open.
    """
    reader = csv.reader(chain(io.StringIO(text, newline=""), (_END,)), delimiter=delimiter)
    begins = 1
    try:
        for row in reader:
            if row == [_END]:
                return
            if row and _END in row[-1]:
                break
            if any(value and not value.isspace() for value in row):
                yield row
            begins = reader.line_num + 1
    except csv.Error:
        pass  # a field beyond csv's limit of 128 kB: a quote that is never closed
    raise NotACsv(
        f"a quote that opens in the row beginning on line {begins} isn't closed, so the rows after it can't be told "
        "apart. Close it, or write quotes inside of a quoted value twice, and upload the file again"
    )
