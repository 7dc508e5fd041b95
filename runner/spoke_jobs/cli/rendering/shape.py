"""The base of the JSON documents that `--json` prints."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from spoke_jobs.cli.printing import print_json


class Shape(BaseModel):
    """A JSON object whose fields are documented by their docstrings."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, from_attributes=True)


def print_document(document: Shape) -> None:
    """Print one JSON document."""
    print_json(document.model_dump_json(indent=2))
