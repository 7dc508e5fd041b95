"""The base of the JSON documents."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """A JSON object whose fields are documented by their docstrings."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, from_attributes=True)

    documented_by: ClassVar[type | None] = None
    """The class whose docstrings document the fields, if these are derived from it."""
