"""The rights that each account needs. `check` examines them, and the charts' Roles must match them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from spoke_jobs.contract.names import GROUP, LIMIT_PLURAL, PLURAL, STATE_CONFIGMAP


class Account(StrEnum):
    """An account that has rights in the cluster."""

    RUNNER = "runner"
    """A process that dispatches jobs."""
    SYNC = "sync"
    """`spoke-jobs sync`."""
    READER = "reader"
    """A person who uses `why`, `show` and `logs`."""


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one kind of object, in the namespace of the SpokeJobs."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    name: str = ""
    """The name of the only object that the right covers; empty for all objects."""

    def __str__(self) -> str:
        """Format as RBAC and `kubectl auth can-i` do: ``create spokejobs.jobs.spoke.dev``."""
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        kind += f"/{self.subresource}" if self.subresource else ""
        return f"{self.verb} {kind}" + (f" {self.name}" if self.name else "")


def _spokejobs(*verbs: str, subresource: str = "") -> tuple[Right, ...]:
    return tuple(Right(verb, PLURAL, GROUP, subresource) for verb in verbs)


LIST_LIMITS = Right("list", LIMIT_PLURAL, GROUP)
RIGHTS: Mapping[Account, tuple[Right, ...]] = MappingProxyType(
    {
        Account.RUNNER: _spokejobs("create"),
        Account.SYNC: (
            *_spokejobs("get", "list", "watch", "create", "patch"),
            *_spokejobs("patch", subresource="status"),
            LIST_LIMITS,
            *(Right(verb, LIMIT_PLURAL, GROUP) for verb in ("create", "patch", "delete")),
            Right("get", "podtemplates"),
            Right("get", "pods"),
            Right("get", "pods", subresource="log"),
        ),
        Account.READER: (
            *_spokejobs("get", "list", "watch"),
            Right("get", "configmaps", name=STATE_CONFIGMAP),
            Right("get", "podtemplates"),
            Right("get", "pods"),
            Right("get", "pods", subresource="log"),
            Right("list", "events"),
        ),
    }
)
CREATE = RIGHTS[Account.RUNNER][0]
