"""The base of the JSON documents."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic_core import to_json

from spoke_jobs.shared.attribute_docs import of_attributes
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


class Shape(BaseModel):
    """A JSON object whose fields are documented by their docstrings."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    documented_by: ClassVar[type | None] = None
    """The class whose docstrings document the fields, if these are derived from it."""

    @classmethod
    def meanings(cls) -> dict[str, str]:
        """Return what the fields mean, by their names; empty for those that explain themselves.

        The docstrings are read here. pydantic would read them with each import, which takes a command longer than a
        query does.
        """
        said = of_attributes(cls.documented_by) if cls.documented_by else {}
        for shape in reversed(cls.__mro__):
            if issubclass(shape, Shape):
                said |= of_attributes(shape)
        return {name: field.description or said.get(name, "") for name, field in cls.model_fields.items()}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """See pydantic: the meanings are in the schema, too."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, meaning in cls.meanings().items():
            if meaning:
                properties[name].setdefault("description", meaning)
        return schema
