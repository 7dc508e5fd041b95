"""Read SpokeLimits and Namespaces into frozen views."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from pydantic import ValidationError

from spoke_jobs.contract.custom_resources.spokelimit import PAUSE_TEXT_LIMIT, SpokeLimitSpec, SpokeLimitStatus
from spoke_jobs.contract.limit_scopes import Scope
from spoke_jobs.contract.names import ANNOTATION_PAUSED
from spoke_jobs.shared.object_fields import Body, items, mapping, moment, number, text

from .api_objects import Key, Meta
from .read_objects import names_of_fields, read_meta

NOT_PAUSED = "false"
"""The only value of the annotation that does not pause the Namespace."""


class SetBy(NamedTuple):
    """Who last set a field, as the API server records it: the client program and the time."""

    manager: str = ""
    at: datetime | None = None


UNKNOWN = SetBy()
_NO_STATUS = SpokeLimitStatus()


@dataclass(frozen=True, slots=True)
class SpokeLimitView:
    """A SpokeLimit."""

    meta: Meta
    generation: int
    spec: SpokeLimitSpec | None
    """None if this release can't read it."""
    problem: str = ""
    """The names of the fields that can't be read."""
    pause_set: SetBy = UNKNOWN
    rate_set: SetBy = UNKNOWN
    status: SpokeLimitStatus = _NO_STATUS
    scope: Scope | None = field(init=False, compare=False)
    """The scope; None if this release does not enforce it. Read once: each change of a limit looks at all of them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scope", Scope.parse(self.spec.scope) if self.spec else None)

    @property
    def key(self) -> Key:
        """The namespaced name."""
        return self.meta.key


@dataclass(frozen=True, slots=True)
class NamespaceView:
    """A Namespace. Its key has no namespace."""

    meta: Meta
    paused: bool = False
    pause_reason: str = ""
    pause_set: SetBy = UNKNOWN


def read_spokelimit(body: Body) -> SpokeLimitView:
    """Read a SpokeLimit. If its spec can't be read, the result names the fields."""
    spec, problem = None, ""
    try:
        spec = SpokeLimitSpec.model_validate(dict(mapping(body, "spec")))
    except ValidationError as error:
        problem = names_of_fields(error)
    try:
        status = SpokeLimitStatus.model_validate(dict(mapping(body, "status")))
    except ValidationError:
        status = _NO_STATUS
    return SpokeLimitView(
        meta=read_meta(body),
        generation=number(mapping(body, "metadata"), "generation"),
        spec=spec,
        problem=problem,
        pause_set=set_by(body, "f:spec", "f:paused"),
        rate_set=set_by(body, "f:spec", "f:rate") if spec is not None and spec.rate is not None else UNKNOWN,
        status=status,
    )


def read_namespace(body: Body) -> NamespaceView:
    """Read a Namespace."""
    reason = mapping(mapping(body, "metadata"), "annotations").get(ANNOTATION_PAUSED)
    return NamespaceView(
        meta=read_meta(body),
        paused=isinstance(reason, str) and reason != NOT_PAUSED,
        pause_reason=reason[:PAUSE_TEXT_LIMIT] if isinstance(reason, str) else "",
        pause_set=set_by(body, "f:metadata", "f:annotations", f"f:{ANNOTATION_PAUSED}")
        if isinstance(reason, str)
        else UNKNOWN,
    )


def set_by(body: Body, *path: str) -> SetBy:
    """Return who last set a field, by the object's managedFields. If several managers own it, the latest counts."""
    owners: list[SetBy] = []
    for entry in items(mapping(body, "metadata"), "managedFields"):
        fields = mapping(entry, "fieldsV1")
        for name in path[:-1]:
            fields = mapping(fields, name)
        if path[-1] in fields:
            owners.append(SetBy(text(entry, "manager")[:PAUSE_TEXT_LIMIT], moment(entry, "time")))
    return max(owners, key=lambda owner: (owner.at is not None, owner.at), default=UNKNOWN)
