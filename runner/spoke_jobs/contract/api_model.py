"""The base of what custom resources hold."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from spoke_jobs.shared.attribute_docs import Documented


class ApiModel(Documented):
    """A part of a custom resource. Fields that it does not know come from a newer release, and are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)
