"""A condition of a custom resource's status. A module of its own: a job's pod reads limits, but no SpokeJob."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from spoke_jobs.shared.object_fields import Moment

MESSAGE_LIMIT = 500
"""The longest message in a status."""


class Condition(BaseModel):
    """A condition in Kubernetes' usual form."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    type: Annotated[str, Field(max_length=40, description="The condition's name.")]
    status: Annotated[str, Field(max_length=10, description="True, False or Unknown.")]
    reason: Annotated[str, Field(max_length=60, description="A cause, a reason to wait, or another word for programs.")]
    message: Annotated[str, Field(max_length=MESSAGE_LIMIT, description="The reason in words, for people.")] = ""
    last_transition_time: Annotated[Moment, Field(description="When the status last changed.")]
