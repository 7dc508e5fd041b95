"""Identify columns by the spellings of their headings, and name the custom fields."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from texting.contacts_csv.refusals import MissingColumns

REQUIRED = ("first name", "last name", "cell")

SPELLINGS = MappingProxyType(
    {
        "first name": ("firstname", "first", "fname", "givenname", "given", "forename", "contactfirstname"),
        "last name": ("lastname", "last", "lname", "surname", "familyname", "family", "contactlastname"),
        "cell": (
            *("cell", "cellphone", "cellnumber", "cellphonenumber", "cellular"),
            *("mobile", "mobilephone", "mobilenumber", "mobilephonenumber", "phonemobile"),
            *("phone", "phonenumber", "contactnumber", "telephone", "telephonenumber", "tel", "number"),
        ),
        "zip": ("zip", "zipcode", "zip5", "postalcode", "postcode", "postal", "mailingzip"),
        "external id": ("externalid", "externalidentifier", "extid", "vanid", "voterid", "contactid"),
    }
)
"""The headings of each column in the form of `folded`, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The position of each column, from 0."""

    first_name: int
    last_name: int
    cell: int
    zip: int | None
    external_id: int | None
    custom: tuple[tuple[str, int], ...]
    """The other columns: the custom field's name, unique in the file, and its position."""


def folded(heading: str) -> str:
    """Normalize a heading: case, spaces, underscores, hyphens, dots, full-width letters."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", heading).casefold())


def columns_of(headings: Sequence[str]) -> Columns:
    """Find the columns in a file's first line.

    If several columns match, the likeliest spelling is used (``cell`` before ``phone``), then the leftmost column. The
    others are custom fields. A repeated custom name gets a number: ``note``, ``note (2)``. A column without a heading
    is left out, because its meaning is unknown.

    :raises MissingColumns: if required columns are missing. It names them.
    """
    places = {name: _place(headings, spellings) for name, spellings in SPELLINGS.items()}
    missing = tuple(name for name in REQUIRED if places[name] is None)
    first, last, cell = (places[name] for name in REQUIRED)
    if first is None or last is None or cell is None:
        raise MissingColumns(missing, tuple(heading.strip() for heading in headings))
    taken = {place for place in places.values() if place is not None}
    further = [(" ".join(name.split()), place) for place, name in enumerate(headings) if place not in taken]
    return Columns(
        first_name=first,
        last_name=last,
        cell=cell,
        zip=places["zip"],
        external_id=places["external id"],
        custom=_made_distinct([(name, place) for name, place in further if name]),
    )


def recognized(headings: Sequence[str]) -> int:
    """Count the known columns among these headings."""
    return sum(_place(headings, spellings) is not None for spellings in SPELLINGS.values())


def _place(headings: Sequence[str], spellings: tuple[str, ...]) -> int | None:
    found = [(spellings.index(name), place) for place, name in enumerate(map(folded, headings)) if name in spellings]
    return min(found)[1] if found else None


def _made_distinct(columns: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    own = {name for name, _ in columns}
    used: set[str] = set()
    distinct = []
    for name, place in columns:
        unique, count = name, 1
        while unique in used or (count > 1 and unique in own):
            count += 1
            unique = f"{name} ({count})"
        used.add(unique)
        distinct.append((unique, place))
    return tuple(distinct)
