"""What the operator publishes of a namespace, in the ConfigMap `spoke-operator-state`: limits, counts, order of turns.

The operator writes it, and `why` and `check` read it, both with this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spoke_jobs.shared.object_fields import moment, text
from spoke_jobs.shared.strict_json import NotJson, read_json_object


class _Model(BaseModel):
    # Unknown fields come from another release: ignore them.
    model_config = ConfigDict(populate_by_name=True, extra="ignore", frozen=True)


class PublishedBound(_Model):
    """A limit of the namespace, and the SpokeLimit or setting that sets it."""

    value: int
    source: str


class PublishedRate(_Model):
    """A rate in the namespace."""

    scope: str
    rate: str
    source: str
    tokens: int
    """How many attempts may start now; of several buckets, those of the emptiest."""


class PublishedPause(_Model):
    """A pause in the namespace. Times are in ISO 8601."""

    scope: str
    source: str
    by: str | None = None
    note: str | None = None
    since: str | None = None
    until: str | None = None


class PublishedQuota(_Model):
    """A resource of a ResourceQuota that is short."""

    resource: str
    requested: str = ""
    used: str = ""
    hard: str = ""


class PublishedHold(_Model):
    """A hold on admission in the namespace. The reason says which of the fields it has. Times are in ISO 8601."""

    reason: str
    template: str | None = None
    since: str | None = None
    short: str | None = None
    """The resources that the nodes lack."""
    quota: str | None = None
    resources: tuple[PublishedQuota, ...] | None = None
    obstacles: tuple[str, ...] | None = None
    pods: int | None = None
    fits: int | None = None
    refused: int | None = None
    cause: str | None = None
    next_probe: str | None = None
    allowance: int | None = None


class PublishedStandby(_Model):
    """A PodTemplate that wants standby pods, and has none or does not get them. Times are in ISO 8601."""

    template: str
    problem: str | None = None
    """Why it can have none."""
    failure: str | None = None
    """Otherwise the cause with which the last one ended, or why the API server refused it; empty if unknown."""
    retry_at: str | None = None
    """When the next one is tried."""
    hindrance: str | None = None
    """Otherwise what keeps those that start from being ready: a cause, a reason to wait, or `NoAnswer`."""


class PublishedPool(_Model):
    """The standby pods of a PodTemplate that wants or has some."""

    template: str
    free: int = 0
    starting: int = 0
    assigned: int = 0
    """How many have an attempt."""


class Running(_Model):
    """How many jobs have a place."""

    all: int = 0
    namespace: int = 0


class OperatorState(_Model):
    """The state of a namespace."""

    limits: dict[str, int] = {}
    """The operator's settings that set a limit."""
    namespace_limits: dict[str, PublishedBound | int] = Field(default={}, alias="namespaceLimits")
    """The limits of the namespace by scope; also its caps, and its weight as a number."""
    rates: tuple[PublishedRate, ...] = ()
    paused: tuple[PublishedPause, ...] = ()
    running: Running = Running()
    queues: dict[str, int] = {}
    """How many jobs run in the busiest queues."""
    organizations: dict[str, int] = {}
    waiting: int = 0
    starting: int = 0
    """How many jobs were admitted and do not run yet."""
    holds: tuple[PublishedHold, ...] = ()
    standby: tuple[PublishedStandby, ...] = ()
    """The PodTemplates that lack standby pods."""
    standby_pods: tuple[PublishedPool, ...] = Field(default=(), alias="standbyPods")
    """How many standby pods there are, by PodTemplate. Operators of earlier releases do not say it."""
    reasons: dict[str, int] = {}
    """What the waiting and the starting jobs wait for, counted as the metric `spoke_operator_waiting` counts them."""
    turns: tuple[str, ...] = ()
    """The first SpokeJobs that wait for admission, in the order of their turns."""

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` made. A field that can't be read has its default."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            wrong = {problem["loc"][0] for problem in error.errors(include_input=False, include_url=False)}
            return cls.model_validate({name: item for name, item in value.items() if name not in wrong})


@dataclass(frozen=True, slots=True)
class Publication:
    """The content of the ConfigMap."""

    at: datetime
    operator: str
    """The replica that wrote it."""
    state: OperatorState
    leads_since: datetime | None = None
    """Since when that replica has been the leader; None if its release does not say it."""

    def to_data(self) -> dict[str, str]:
        """Return the ConfigMap's data."""
        state = json.dumps(self.state.to_json(), sort_keys=True)
        data = {"operator": self.operator, "time": self.at.isoformat(), "state": state}
        return data if self.leads_since is None else data | {"since": self.leads_since.isoformat()}

    @classmethod
    def read(cls, data: Mapping[str, Any] | None) -> Self | None:
        """Read the ConfigMap's data; None if it doesn't exist or is malformed."""
        at = moment(data or {}, "time")
        state = read_json_object(text(data or {}, "state"))
        if at is None or isinstance(state, NotJson):
            return None
        return cls(at, text(data or {}, "operator"), OperatorState.read(state), moment(data or {}, "since"))
