"""The base of the JSON documents."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """A JSON object whose fields are documented by their docstrings."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, from_attributes=True)
