"""The base of the JSON documents."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict
from pydantic_core import to_json

from spoke_jobs.shared.attribute_docs import Documented
from spoke_jobs.shared.clean_text import storable
from spoke_jobs.shared.strict_json import NotJson, read_json

TOO_DEEP = "nested too deep to be shown"


def writable(value: Any) -> Any:
    """Return a JSON value as UTF-8 can have it: with U+FFFD for lone surrogates, as text if it is nested too deep.

    Otherwise the result of one job would leave all of a list without a document.
    """
    try:
        to_json(value)
    except ValueError:  # also pydantic's own
        pass
    else:
        return value
    try:
        text = storable(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        return TOO_DEEP
    shown = read_json(text)
    return text if isinstance(shown, NotJson) else shown


AnyJson = Annotated[Any, AfterValidator(writable)]
"""A value that somebody else has made."""


class Shape(Documented):
    """A JSON object."""

    model_config = ConfigDict(frozen=True, from_attributes=True)
