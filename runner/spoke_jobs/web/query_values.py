"""The values that parameters of an address may have: how they are read, and their JSON Schema. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from itertools import islice
from typing import Any

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.shared.clean_text import is_storable

TEXT_LIMIT = 500


@dataclass(frozen=True, slots=True)
class ValueKind:
    """A kind of values."""

    read: Callable[[str, tzinfo], Any]
    """Reads a text that is not empty, with the reader's time zone. None: it is no such value."""
    problem: str
    """What to say about a text that is no such value."""
    schema: Mapping[str, Any]
    """The JSON Schema of its values in an address that has no time zone of its own."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an address."""

    name: str
    kind: ValueKind
    meaning: str
    """A sentence."""
    default: Any = None
    """What holds without it, if that is a value."""
    not_with: str = ""
    """The name of a parameter with which it can't be given, because it would change nothing."""


NO_PARAMETERS: tuple[Parameter, ...] = ()
_MOST_PROBLEMS = 20
_LONGEST_NAME = 100


def parameter_problems(known: Collection[Parameter], given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Find what is wrong with the parameters of an address, by their names. They have no time zone of their own.

    A name that is not known is wrong: it may be mistyped, and without the filter the answer would be another one.
    """
    kinds = {parameter.name: parameter.kind for parameter in known}
    excluded = {parameter.name: parameter.not_with for parameter in known if parameter.not_with}
    times = Counter(name for name, _ in given)
    found: dict[str, str] = {}
    for name, text in given:
        if name not in kinds:
            found[name[:_LONGEST_NAME]] = "There is no such parameter."
        elif times[name] > 1:
            found[name] = "Give it once."
        elif kinds[name].read(text, UTC) is None:
            found[name] = kinds[name].problem
        elif excluded.get(name) in times:
            found[name] = f"Leave it out, or leave out {excluded[name]}."
    return dict(islice(found.items(), _MOST_PROBLEMS))


def values_of(known: Iterable[Parameter], given: Mapping[str, str]) -> dict[str, Any]:
    """Read the valid parameters of an address, or what holds without them, by their names."""
    return {each.name: each.kind.read(given[each.name], UTC) if each.name in given else each.default for each in known}


def texts_of(names: Iterable[str], query: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Read filters of an address that take any text; return them, and what is wrong with one of them."""
    given = {name: text for name in names if (text := query.get(name, "").strip())}
    wrong = any(len(text) > TEXT_LIMIT or not is_storable(text) for text in given.values())
    return given, f"Give at most {TEXT_LIMIT} characters, without NUL." if wrong else ""


def whole_number(text: str, least: int, most: int) -> int | None:
    """Read a whole number; None if the text is none between the bounds."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return None
    number = int(text)
    return number if least <= number <= most else None


def number(least: int, most: int = LARGEST_ID) -> ValueKind:
    """Return the kind of whole numbers between the bounds."""
    to = f" to {most:,}" if most != LARGEST_ID else ""
    return ValueKind(
        lambda text, _zone: whole_number(text, least, most),
        f"Give a whole number from {least}{to}.",
        {"type": "integer", "minimum": least, "maximum": most},
    )


def one_of(values: Iterable[str]) -> ValueKind:
    """Return the kind of these words."""
    words = [str(value) for value in values]
    return ValueKind(
        lambda text, _zone: text if text in words else None,
        f"Choose one of: {', '.join(words)}.",
        {"type": "string", "enum": words},
    )


def member_of(members: type[StrEnum]) -> ValueKind:
    """Return the kind of the members of an enumeration."""
    words = one_of(members)
    return ValueKind(
        lambda text, _zone: members(text) if text in list(members) else None,
        words.problem,
        words.schema,
    )


def _text(text: str, _zone: tzinfo) -> str | None:
    return text if text.strip() and len(text) <= TEXT_LIMIT and is_storable(text) else None


def _moment(text: str, zone: tzinfo) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        time = found if found.tzinfo is not None else found.replace(tzinfo=zone)
        utc = time.astimezone(UTC).replace(second=0, microsecond=0)
        utc.astimezone(zone)  # it can be shown
    except (ValueError, OverflowError):
        return None
    return utc


TEXT = ValueKind(
    _text,
    f"Give 1 to {TEXT_LIMIT} characters, not only spaces, and no NUL.",
    {"type": "string", "minLength": 1, "maxLength": TEXT_LIMIT, "pattern": r"\S"},
)
MOMENT = ValueKind(
    _moment,
    "Give a date and a time: 2026-03-01T08:00.",
    {
        "type": "string",
        "description": "A time (ISO 8601), in UTC unless it names another zone. Seconds are left out.",
        "examples": ["2026-03-01T08:00Z"],
    },
)
"""Times, to the minute."""
YES_OR_NO = ValueKind(
    lambda text, _zone: {"true": True, "false": False}.get(text),
    "Give true or false.",
    {"type": "boolean"},
)
