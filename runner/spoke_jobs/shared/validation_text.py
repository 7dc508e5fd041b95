"""Say in plain words why a value is refused, in place of pydantic's messages."""

from __future__ import annotations

import re
import types
import typing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

_SHOWN_LENGTH = 100
_CONSONANT_FIRST = re.compile(r"[^aeiou]|uu|uni|us[eua]", re.IGNORECASE)
_TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_BOUNDS = {"ge": "from {:,}", "gt": "above {:,}", "le": "to {:,}", "lt": "below {:,}"}
_KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "decimal": "a decimal number",
    "string": "text",
    "bytes": "bytes",
    "dict": "an object",
    "mapping": "an object",
    "model": "an object",
    "dataclass": "an object",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "date": "a date",
    "datetime": "a time",
    "time": "a time of day",
    "uuid": "a UUID",
    "none": "null",
}
"""What is expected, by the first word of the type of pydantic's error."""
_WITH_LIMITS = {
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than_equal": "a number from {ge}",
    "greater_than": "a number above {gt}",
    "less_than_equal": "a number up to {le}",
    "less_than": "a number below {lt}",
    "string_too_short": "text of {min_length} characters or more",
    "string_too_long": "text of {max_length} characters or less",
    "string_pattern_mismatch": "text that matches {pattern}",
}
"""What is expected, by the whole type of pydantic's error."""


def wrong(value: object, expected: str) -> str:
    """Return what is wrong with a value, as text that follows its name: " is 5, where ... is expected"."""
    shown = repr(value)
    return (
        f" is {shown if len(shown) <= _SHOWN_LENGTH else shown[:_SHOWN_LENGTH] + '...'}, where {expected} is expected"
    )


def an(noun: str) -> str:
    """Put the indefinite article before a noun or the name of a type: ``an int``, ``a str``, ``a UUID``."""
    return f"{'a' if _CONSONANT_FIRST.match(noun) else 'an'} {noun}"


def of_field(field: FieldInfo) -> str:
    """Return what a setting's field expects: "a number from 0.5 to 3,600"; empty if that is not a plain value."""
    annotation: Any = field.annotation
    if isinstance(annotation, types.UnionType):
        annotation = next(kind for kind in typing.get_args(annotation) if kind is not types.NoneType)
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(repr(value) for value in typing.get_args(annotation))
    return f"{_TYPES[annotation]} {bounds(field)}".rstrip() if annotation in _TYPES and annotation is not str else ""


def bounds(field: FieldInfo) -> str:
    """Return what a setting's number is bounded by: "from 0.5 to 3,600"; empty if by nothing."""
    return " ".join(
        words.format(bound)
        for name, words in _BOUNDS.items()
        for item in field.metadata
        if (bound := getattr(item, name, None)) is not None
    )


def of_error(item: ErrorDetails) -> str:
    """Return what pydantic expected: "a whole number"; empty if the type of its error is not known here."""
    if (words := _WITH_LIMITS.get(item["type"])) is not None:
        return words.format_map(item.get("ctx", {}))
    first, _, rest = item["type"].partition("_")
    return _KINDS.get(first, "") if rest.endswith(("type", "parsing", "from_float", "number", "required")) else ""


def setting(item: ErrorDetails, field: FieldInfo) -> str:
    """Return what is wrong with a setting, as text to follow its name, with its value."""
    expected = "" if item["type"] == "value_error" else of_field(field) or of_error(item)
    return wrong(item["input"], expected) if expected else f": {_own_words(item)}"


def hidden(item: ErrorDetails) -> str:
    """Return what is wrong with a field whose value must not be shown, as text to follow the field's name."""
    if item["type"] == "missing":
        return " is missing"
    if item["type"] == "extra_forbidden":
        return " is unknown"
    expected = of_error(item)
    return f": {expected} is expected" if expected else f": {_own_words(item)}"


def _own_words(item: ErrorDetails) -> str:
    return item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
