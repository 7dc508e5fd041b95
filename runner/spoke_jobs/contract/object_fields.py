"""Read fields of Kubernetes objects leniently.

A field that is missing or has an unexpected type reads as empty, because one malformed object must not stop a process
from serving the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

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


def number(body: Body, name: str) -> int:
    """Return the whole number in a field; 0 if the field holds none."""
    value = body.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def digits(value: str) -> int:
    """Convert digits, such as a resource version, to a number; 0 for any other text."""
    return int(value) if value.isascii() and value.isdigit() else 0


def moment(body: Body, name: str) -> datetime | None:
    """Return the time in a field; None if the field holds none, or one without a time zone."""
    try:
        value = datetime.fromisoformat(text(body, name))
    except ValueError:
        return None
    return value if value.tzinfo else None
