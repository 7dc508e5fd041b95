"""Name the fields of an object that can't be read."""

from __future__ import annotations

from pydantic import ValidationError

LONGEST = 500
"""The most characters. A field's name may be a key that the object's author chose, as long as the whole object."""


def names_of_fields(error: ValidationError) -> str:
    """Return the names of the fields, without their values."""
    text = ", ".join(sorted({".".join(map(str, item["loc"])) for item in error.errors(include_input=False)}))
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
