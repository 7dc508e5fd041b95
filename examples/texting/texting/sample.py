"""Generate a contacts file with the defects of real exports, and the correct result of its import.

    python -m texting.sample --rows 50000 --seed 7 > contacts.csv

The correct result is recorded while the file is generated. It is not read from the file, so it can verify an import.
The same number of rows and seed yield the same bytes. Numbers use the exchange 555, which is reserved for fiction.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

HEADINGS = (
    *("First Name", "SURNAME", "Home phone", "mobile_number", "Zip Code", "VAN ID", "note", "note"),
    "Polling Place",
)
CUSTOM_FIELDS = ("Home phone", "note", "note (2)", "Polling Place")

_PER_MILLE = {"repeated": 30, "invalid": 20, "missing": 15, "opted_out": 10}
_AREAS = (
    *("201", "202", "206", "212", "213", "214", "215", "303", "305", "310", "312", "313", "314", "315", "317", "323"),
    *("401", "402", "404", "407", "412", "415", "480", "502", "503", "504", "505", "512", "513", "515", "602", "603"),
    *("608", "612", "614", "615", "617", "702", "704", "713", "716", "718", "720", "773", "801", "804", "808", "813"),
)
_PER_AREA = 10_000
MOST_ROWS = len(_AREAS) * _PER_AREA
_FIRST_NAMES = ("Ada", "José", "Zoë", "Nguyễn", "Mary Ann", "Łukasz", "李娜", "D'Andre", "Renée", "Oluwaseun", "Bo")
_LAST_NAMES = ("Muñoz", "O\u2019Brien", "Smith, Jr.", "van der Berg", "Groß", "Lefèvre", 'Lee "Buddy"', "Šťastná", "Ng")
_NOTES = (
    *("", "", "", "prefers evenings", 'said "call me later"', "two lines\nin one value", "moved, see file", "=1+1"),
    *("50% sure; ask again", "@home", "Straße\r\nHaus 4"),
)
_PLACES = ("Library", "St. Mary's School", "Fire House No. 3", "Town Hall, Room 2", "")
_WRITTEN = (
    "({a}) 555-{n}",
    "{a}-555-{n}",
    "{a}.555.{n}",
    "{a}555{n}",
    "+1 {a} 555 {n}",
    "1-{a}-555-{n}",
    " {a} 555 {n} ",
    "{a}555{n}.0",
)
_INVALID = (
    "555-01",
    "123 456 7890",
    "call the office",
    "(212) 155-0199",
    "+1 000 555 0100",
    "99999999999999",
    "2125550",
)
_MISSING = ("", " ", "-", "N/A", "none")


@dataclass(frozen=True, slots=True)
class SampleContact:
    """A contact as a correct import stores it."""

    first_name: str
    last_name: str
    cell: str
    zip: str
    external_id: str
    custom_fields: tuple[str, ...]
    """In the order of `CUSTOM_FIELDS`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A file and its correct result."""

    data: bytes = field(repr=False)
    opted_out: tuple[str, ...]
    """The numbers in E.164 that must be opted out before the import for the counts to be right."""
    contacts: tuple[SampleContact, ...] = field(repr=False)
    """The contacts to load, in the file's order."""
    repeated: int
    invalid: int
    missing: int

    @property
    def summary(self) -> dict[str, int]:
        """The summary that a correct import reports."""
        return {
            "loaded": len(self.contacts),
            "repeated": self.repeated,
            "invalid": self.invalid,
            "missing": self.missing,
            "opted_out": len(self.opted_out),
        }


def checksum(rows: Iterable[tuple[str, ...]]) -> str:
    """Return the SHA-256 of rows of values, independent of their order, hexadecimal."""
    return hashlib.sha256("\n".join(sorted(json.dumps(row) for row in rows)).encode()).hexdigest()


def make_sample(rows: int, seed: int) -> Sample:
    """Generate a file with this number of rows after the headings.

    :raises ValueError: if there are too few rows for all kinds of defects, or more rows than numbers.
    """
    if not 100 <= rows <= MOST_ROWS:
        raise ValueError(f"a sample has from 100 to {MOST_ROWS} rows, not {rows}")
    chance = random.Random(seed)
    numbers = iter(chance.sample(range(MOST_ROWS), rows))
    used: list[int] = []
    contacts: list[SampleContact] = []
    opted_out: list[str] = []
    kinds = _kinds(rows, chance)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(HEADINGS)
    for place, kind in enumerate(kinds):
        if kind in ("loaded", "opted_out"):
            used.append(next(numbers))
        written = {
            "invalid": lambda: chance.choice(_INVALID),
            "missing": lambda: chance.choice(_MISSING),
            "repeated": lambda: _written(chance.choice(used), chance),
        }.get(kind, lambda: _written(used[-1], chance))()
        contact, written_zip = _person(place, _e164(used[-1]), chance)
        if kind == "loaded":
            contacts.append(contact)
        elif kind == "opted_out":
            opted_out.append(contact.cell)
        writer.writerow(_row(contact, written, written_zip, chance))
        if chance.random() < 0.002:
            text.write(chance.choice(("\r\n", ",,,,,,,,\r\n")))
    return Sample(
        data=text.getvalue().encode("utf-8-sig"),
        opted_out=tuple(opted_out),
        contacts=tuple(contacts),
        repeated=kinds.count("repeated"),
        invalid=kinds.count("invalid"),
        missing=kinds.count("missing"),
    )


def _kinds(rows: int, chance: random.Random) -> list[str]:
    kinds = [kind for kind, share in _PER_MILLE.items() for _ in range(rows * share // 1000)]
    kinds += ["loaded"] * (rows - len(kinds) - 1)
    chance.shuffle(kinds)
    return ["loaded", *kinds]  # a repeated row needs an earlier one


def _e164(number: int) -> str:
    return f"+1{_AREAS[number // _PER_AREA]}555{number % _PER_AREA:04}"


def _written(number: int, chance: random.Random) -> str:
    return chance.choice(_WRITTEN).format(a=_AREAS[number // _PER_AREA], n=f"{number % _PER_AREA:04}")


def _person(place: int, cell: str, chance: random.Random) -> tuple[SampleContact, str]:
    """A person, and the spelling of the zip code in the file."""
    zip_code = f"{chance.randrange(501, 99951):05}"
    contact = SampleContact(
        first_name=chance.choice(_FIRST_NAMES),
        last_name=chance.choice(_LAST_NAMES),
        cell=cell,
        zip=zip_code,
        external_id=f"V{place:07}",
        custom_fields=(
            chance.choice(("", "555-0100")),
            chance.choice(_NOTES),
            chance.choice(_NOTES),
            chance.choice(_PLACES),
        ),
    )
    return contact, chance.choice((zip_code, zip_code, f"{zip_code}-0042", zip_code.lstrip("0"), f"{zip_code}.0"))


def _row(contact: SampleContact, number: str, zip_code: str, chance: random.Random) -> list[str]:
    home, note, note_2, polling_place = contact.custom_fields
    row = [contact.first_name, f" {contact.last_name} ", home, number, zip_code, contact.external_id, note, note_2]
    # Spreadsheets omit empty cells at the end of a row.
    return row if not polling_place and chance.random() < 0.5 else [*row, polling_place]


def main() -> None:
    """Write the file to standard output, and the correct result to the file of ``--truth``."""
    parser = argparse.ArgumentParser(
        prog="python -m texting.sample", description="Generate a contacts file to try the import."
    )
    parser.add_argument("--rows", type=int, default=50_000, help=f"rows after the headings, 100 to {MOST_ROWS}")
    parser.add_argument("--seed", type=int, default=7, help="another seed makes another file")
    parser.add_argument("--truth", type=Path, help="a file for the expected summary and the opted-out numbers (JSON)")
    options = parser.parse_args()
    try:
        sample = make_sample(options.rows, options.seed)
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.buffer.write(sample.data)
    if options.truth:
        truth = {"summary": sample.summary, "opted_out": sample.opted_out}
        options.truth.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
