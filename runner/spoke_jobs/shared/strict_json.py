"""Read JSON that pods, API servers, databases and clients wrote.

The reader is total: for any bytes or text it returns the value, or says why there is none. It never raises. Deep
nesting, long numbers, NaN and lone surrogates are refused, because each of them stops some later reader or writer. Of a
key that occurs twice, the last value counts, as in Python's reader. A number beyond the largest float is read as
infinite: to look for one would take several times as long as to read, and those who use a number check its range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

DEPTH = 200
"""How deep lists and objects may be nested. It is the bound of pydantic's reader."""


@dataclass(frozen=True, slots=True)
class NotJson:
    """Why a text is no JSON that this product reads. It quotes nothing of the text."""

    problem: str


def read_json(data: str | bytes | bytearray, limit: int | None = None) -> Any | NotJson:
    """Read one JSON value.

    :param limit: the most characters or bytes that are read.
    """
    if limit is not None and len(data) > limit:
        return NotJson(f"longer than {limit}")
    try:
        return from_json(data, allow_inf_nan=False)
    except (ValueError, TypeError):  # a TypeError for text with lone surrogates
        return NotJson("no JSON, or nested too deeply")


def is_bounded(value: Any) -> bool:
    """Whether a value of JSON's types is nested at most :data:`DEPTH` deep, and its floats are finite."""
    level = [value]
    for _ in range(DEPTH + 1):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, float) and not math.isfinite(item):
                return False
        if not inner:
            return True
        level = inner
    return False


def read_json_object(data: str | bytes | bytearray, limit: int | None = None) -> dict[str, Any] | NotJson:
    """Read one JSON object; see :func:`read_json`."""
    value = read_json(data, limit)
    return value if isinstance(value, dict | NotJson) else NotJson("no JSON object")
