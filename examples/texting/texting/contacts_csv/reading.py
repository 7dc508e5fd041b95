"""Read a contacts file row by row, with the reasons for rows that are left out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from texting.contacts_csv.decoding import text_of
from texting.contacts_csv.headings import Columns, columns_of
from texting.contacts_csv.table import Table, table_of
from texting.contacts_csv.values import is_missing, to_e164, to_zip


class Reason(StrEnum):
    """Why a row is left out. The first reason that applies counts, in this order."""

    MISSING = "missing"
    """It has no number."""
    INVALID = "invalid"
    """Its number is invalid."""
    REPEATED = "repeated"
    """An earlier row of the file has the number, whether that row was loaded or not."""
    OPTED_OUT = "opted_out"


@dataclass(frozen=True, slots=True)
class ContactRow:
    """A row to load."""

    row: int
    """Its number in the file, from 1, without headings and empty lines."""
    first_name: str
    last_name: str
    cell: str
    """E.164."""
    zip: str
    """Empty if the file has none, like ``external_id``."""
    external_id: str
    custom_fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not loaded."""

    row: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class ContactsFile:
    """A file that is a contacts list."""

    encoding: str
    delimiter: str
    columns: Columns
    table: Table

    @property
    def rows(self) -> int:
        """The number of rows that `read` yields, without empty lines."""
        return self.table.rows

    @property
    def custom_fields(self) -> tuple[str, ...]:
        """The custom fields' names in the file's order, each once."""
        return tuple(name for name, _ in self.columns.custom)

    def read(self, *, country: str = "US", opted_out: Collection[str] = frozenset()) -> Iterator[ContactRow | LeftOut]:
        """Yield every row in the file's order, as a row to load or a row left out.

        If a row is shorter than the headings, the missing values are empty. Values beyond the headings are left out.

        :param country: ISO 3166 code in capitals, for numbers without a country code.
        :param opted_out: numbers in E.164 to leave out. Pass a set: every row is looked up in it.
        """
        seen: set[str] = set()
        columns = self.columns
        for number, values in self.table:
            row = _Row(values)
            written = row.at(columns.cell)
            if is_missing(written):
                yield LeftOut(number, Reason.MISSING)
                continue
            cell = to_e164(written, country)
            if cell is None:
                yield LeftOut(number, Reason.INVALID)
            elif cell in seen:
                yield LeftOut(number, Reason.REPEATED)
            elif cell in opted_out:
                seen.add(cell)
                yield LeftOut(number, Reason.OPTED_OUT)
            else:
                seen.add(cell)
                yield ContactRow(
                    row=number,
                    first_name=row.at(columns.first_name),
                    last_name=row.at(columns.last_name),
                    cell=cell,
                    zip=to_zip(row.at(columns.zip), country),
                    external_id=row.at(columns.external_id),
                    custom_fields={name: row.at(place) for name, place in columns.custom},
                )


def open_contacts(data: bytes) -> ContactsFile:
    """Check that a file is a contacts list, and find its columns. The result's `read` reads the rows.

    :param data: the file as uploaded, plain or compressed with gzip.
    :raises RefusedFile: `NotACsv` or `MissingColumns`, with a message for the person who uploaded the file.
    """
    text, encoding = text_of(data)
    table = table_of(text)
    return ContactsFile(encoding=encoding, delimiter=table.delimiter, columns=columns_of(table.headings), table=table)


class _Row:
    """A row's values by position. Short rows lack some."""

    __slots__ = ("_values",)

    def __init__(self, values: list[str]) -> None:
        self._values = values

    def at(self, place: int | None) -> str:
        return self._values[place].strip() if place is not None and place < len(self._values) else ""
