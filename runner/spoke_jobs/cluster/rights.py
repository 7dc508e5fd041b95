"""The rights that each account needs. `check` examines them, and the charts' Roles must match them.

Those to our own kinds are in the table of kinds (:mod:`spoke_jobs.contract.custom_resources.kinds`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from spoke_jobs.cluster.kube_environment import Account
from spoke_jobs.contract.custom_resources.kinds import CUSTOM, Kind, Role
from spoke_jobs.contract.names import STATE_CONFIGMAP


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


def _right(kind: Kind, verb: str, subresource: str = "", name: str = "") -> Right:
    return Right(verb, kind.plural, kind.group, subresource, name)


def _to_our_kinds(account: Account) -> tuple[Right, ...]:
    return tuple(
        _right(kind, verb, grant.subresource)
        for kind in CUSTOM
        for grant in kind.grants_of(Role(account))
        for verb in grant.verbs
    )


CREATE = _right(Kind.SPOKEJOB, "create")
LIST_LIMITS = _right(Kind.SPOKELIMIT, "list")
_OTHERS: Mapping[Account, tuple[Right, ...]] = {
    Account.SYNC: (
        _right(Kind.TEMPLATE, "get"),
        _right(Kind.POD, "get"),
        _right(Kind.POD, "get", "log"),
    ),
    Account.READER: (
        _right(Kind.CONFIGMAP, "get", name=STATE_CONFIGMAP),
        _right(Kind.TEMPLATE, "get"),
        _right(Kind.TEMPLATE, "list"),
        _right(Kind.POD, "get"),
        _right(Kind.POD, "get", "log"),
        _right(Kind.WARNING, "list"),
    ),
}
"""The rights to Kubernetes' kinds."""
RIGHTS: Mapping[Account, tuple[Right, ...]] = MappingProxyType(
    {account: (*_to_our_kinds(account), *_OTHERS.get(account, ())) for account in Account}
)
