"""Read fields of Kubernetes objects leniently.

A field that is missing or has an unexpected type reads as empty, because one malformed object must not stop a process
from serving the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator

_LARGEST = 2**63 - 1
_MOST_DIGITS = 19
_FIRST_YEAR, _LAST_YEAR = 1970, 2999
Body = Mapping[str, Any]
"""An object, or a part of one, as the API server sends it."""


def mapping(body: Body, name: str) -> Body:
    """Return the mapping in a field; empty if the field holds none."""
    value = body.get(name)
    return value if isinstance(value, Mapping) else {}


def items(body: Body, name: str) -> list[Body]:
    """Return the mappings in a field's list; empty if the field holds no list."""
    value = body.get(name)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def text(body: Body, name: str) -> str:
    """Return the string in a field; empty if the field holds none."""
    value = body.get(name)
    return value if isinstance(value, str) else ""


def uid_of(body: Body) -> str:
    """Return Kubernetes' UID of an object; empty if it has none."""
    return text(mapping(body, "metadata"), "uid")


def version_of(body: Body) -> str:
    """Return the resource version of an object or a listing; empty if it has none."""
    return text(mapping(body, "metadata"), "resourceVersion")


def number(body: Body, name: str) -> int:
    """Return the whole number in a field; 0 if the field holds none, or one of more than 64 bits."""
    value = body.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST else 0


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing."""

    items: list[dict[str, Any]]
    resource_version: str
    """The version of the listing as a whole, from which a watch continues: no object in it is newer."""
    following: str = ""
    """What the call for the next page continues with; empty on the last page."""


def page_of(body: Body) -> Page:
    """Read a page of a listing."""
    objects = [dict(item) for item in items(body, "items")]
    return Page(objects, version_of(body), text(mapping(body, "metadata"), "continue"))


def digits(value: str) -> int:
    """Convert digits, such as a resource version, to a number; 0 for any other text, or for more than 64 bits."""
    found = int(value) if len(value) <= _MOST_DIGITS and value.isascii() and value.isdigit() else 0
    return found if found <= _LARGEST else 0


def moment(body: Body, name: str) -> datetime | None:
    """Return the time in a field; None if the field holds none, or one without a time zone.

    Also return None for a year to which a timeout cannot be added without an error.
    """
    try:
        value = datetime.fromisoformat(text(body, name))
    except ValueError:
        return None
    return value if is_of_this_era(value) else None


def is_of_this_era(value: datetime) -> bool:
    """Whether the time has a zone, and a timeout can be added to it."""
    return value.tzinfo is not None and _FIRST_YEAR <= value.year <= _LAST_YEAR


def _checked(value: datetime) -> datetime:
    if not is_of_this_era(value):
        raise ValueError(f"a time with a zone, from {_FIRST_YEAR} to {_LAST_YEAR}, is expected")
    return value


Moment = Annotated[datetime, AfterValidator(_checked)]
"""A time in a model of an API object."""
