"""Read fields of the Kubernetes API's objects leniently.

A field that is missing, or has another type than expected, reads as empty: one malformed object must not stop a
process from serving the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Body = Mapping[str, Any]
"""An object, or a part of one, as the API server sends it."""


def mapping(body: Body, name: str) -> Body:
    """The mapping in a field; empty if it isn't one."""
    value = body.get(name)
    return value if isinstance(value, Mapping) else {}


def items(body: Body, name: str) -> list[Body]:
    """The mappings in a list; empty if it isn't one."""
    value = body.get(name)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def text(body: Body, name: str) -> str:
    """The text in a field; empty if it isn't one."""
    value = body.get(name)
    return value if isinstance(value, str) else ""


def number(body: Body, name: str) -> int:
    """The whole number in a field; 0 if it isn't one."""
    value = body.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def digits(value: str) -> int:
    """The number that a text of digits stands for, such as a resource version; 0 for any other text."""
    return int(value) if value.isascii() and value.isdigit() else 0


def moment(body: Body, name: str) -> datetime | None:
    """The time in a field; None if it isn't one, or has no time zone."""
    try:
        value = datetime.fromisoformat(text(body, name))
    except ValueError:
        return None
    return value if value.tzinfo else None
