"""A condition of a custom resource's status. A module of its own: a job's pod reads limits, but no SpokeJob."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spoke_jobs.contract.api_model import ApiModel
from spoke_jobs.shared.object_fields import Moment

MESSAGE_LIMIT = 500
"""The longest message in a status."""


class Condition(ApiModel):
    """A condition in Kubernetes' usual form."""

    type: Annotated[str, Field(max_length=40)]
    """The condition's name."""
    status: Annotated[str, Field(max_length=10)]
    """True, False or Unknown."""
    reason: Annotated[str, Field(max_length=60)]
    """A cause, a reason to wait, or another word for programs."""
    message: Annotated[str, Field(max_length=MESSAGE_LIMIT)] = ""
    """The reason in words, for people."""
    last_transition_time: Moment
    """When the status last changed."""
