"""The base of the JSON documents."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler

from spoke_jobs.shared.attribute_docs import of_attributes


class Shape(BaseModel):
    """A JSON object whose fields are documented by their docstrings."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, from_attributes=True)

    documented_by: ClassVar[type | None] = None
    """The class whose docstrings document the fields, if these are derived from it."""

    @classmethod
    def meanings(cls) -> dict[str, str]:
        """Return what the fields mean, by their names; empty for those that explain themselves."""
        said = of_attributes(cls.documented_by) if cls.documented_by else {}
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
