"""The model of the SpokeLimit custom resource: a namespace's limits, rates, pauses, caps and weight.

People, GitOps and `spoke-jobs sync` write the spec. The operator enforces the spec and writes the status. If several
SpokeLimits apply to a job, the smallest value wins.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from spoke_jobs.contract.api_model import ApiModel
from spoke_jobs.contract.condition import Condition
from spoke_jobs.contract.limit_scopes import EACH_FORMS, EACH_NAMES, EXPECTED, SCOPE_LIMIT
from spoke_jobs.contract.names import PRIORITY_LIMIT
from spoke_jobs.contract.start_rate import MOST_STARTS, RATE_LENGTH, UNITS, StartRate
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.shared.object_fields import Moment

WEIGHT_LIMIT = 100
TIMEOUT_LIMIT = 2592000
PAUSE_TEXT_LIMIT = 200
ENFORCED = "Enforced"
PAUSED = WaitReason.PAUSED.value


class PauseSpec(ApiModel):
    """Why no attempt starts. Running attempts continue."""

    reason: Annotated[str, Field(min_length=1, max_length=PAUSE_TEXT_LIMIT)]
    """Why; shown on each job that it holds back."""
    by: Annotated[str, Field(max_length=PAUSE_TEXT_LIMIT)] = ""
    """Who paused it; if empty, the field manager that set it."""
    until: Moment | None = None
    """When the pause ends by itself; never if absent."""


class SpokeLimitSpec(ApiModel):
    """What the operator enforces in this namespace. If several SpokeLimits apply, the smallest value wins."""

    scope: Annotated[
        str,
        Field(
            min_length=1,
            max_length=SCOPE_LIMIT,
            pattern=r"^[a-z][a-z-]*(:.+)?$",
            description=f"The jobs to which it applies: {EXPECTED}. Other forms belong to later releases, and are not "
            "enforced.",
        ),
    ]
    max_running: Annotated[
        int | None,
        Field(
            ge=0,
            le=1_000_000,
            description=f"The most attempts of the scope at a time; with {EACH_FORMS}, the most of each {EACH_NAMES}. "
            "With 0 none starts.",
        ),
    ] = None
    rate: Annotated[
        str | None,
        Field(
            max_length=RATE_LENGTH,
            pattern=f"^[1-9][0-9]{{0,6}}/([1-9][0-9]{{0,5}})?({'|'.join(UNITS)})$",
            description="How many attempts of the scope may start: 5/s, 100/min, 1000/h, 1/d or 10/30s; with "
            f"{EACH_FORMS}, of each {EACH_NAMES}.",
        ),
    ] = None
    burst: Annotated[int | None, Field(ge=1, le=MOST_STARTS)] = None
    """Only with a rate: how many attempts may start at once after a quiet time; 1 if absent."""
    paused: PauseSpec | None = None
    """While set, no attempt of the scope starts. Running attempts continue."""
    max_unfinished: Annotated[int | None, Field(ge=0, le=1_000_000)] = None
    """Only with scope all: how many unfinished SpokeJobs of the namespace, the oldest ones, may have attempts. The
    others wait."""
    max_priority: Annotated[int | None, Field(ge=-PRIORITY_LIMIT, le=PRIORITY_LIMIT)] = None
    """Only with scope all: a job of a higher priority counts as one of this priority."""
    default_timeout_seconds: Annotated[int | None, Field(ge=1, le=TIMEOUT_LIMIT)] = None
    """Only with scope all: how long an attempt may run if its job sets no timeout."""
    max_timeout_seconds: Annotated[int | None, Field(ge=1, le=TIMEOUT_LIMIT)] = None
    """Only with scope all: the longest that any attempt may run, whatever its job's timeout."""
    weight: Annotated[int | None, Field(ge=1, le=WEIGHT_LIMIT)] = None
    """Only with scope all: the namespace's share of turns among namespaces; 1 if absent."""

    @field_validator("rate")
    @classmethod
    def _rate_can_be_kept(cls, text: str | None) -> str | None:
        if text is not None:
            StartRate.parse(text)
        return text

    @property
    def start_rate(self) -> StartRate | None:
        """The rate with its burst."""
        return None if self.rate is None else StartRate.parse(self.rate, self.burst or 1)


class SpokeLimitStatus(ApiModel):
    """What the operator counts, and whether it enforces the SpokeLimit."""

    observed_generation: Annotated[int | None, Field(ge=0)] = None
    """The generation of the spec that this status describes."""
    running: Annotated[int | None, Field(ge=0)] = None
    """How many jobs of the scope have an attempt."""
    waiting: Annotated[int | None, Field(ge=0)] = None
    """How many jobs of the scope wait for their turn."""
    full_at: Annotated[
        Moment | None,
        Field(
            description="Of a rate: when all tokens of the burst are there, if no attempt starts before. The next "
            f"leader goes on from it. Absent with {EACH_FORMS}."
        ),
    ] = None
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=8, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
        ),
    ] = ()
    """Enforced, Paused."""
