"""What `spoke-jobs check` found in a cluster. Frozen; importing it needs no client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from spoke_jobs.cluster.cluster_view import Published
from spoke_jobs.cluster.rights import Right


@dataclass(frozen=True, slots=True)
class ApiRefusal:
    """An error that a check met."""

    status: int
    """HTTP's; 0 for no answer."""
    message: str


@dataclass(frozen=True, slots=True)
class OperatorLease:
    """The operator's Lease, which says which replica leads."""

    holder: str
    renewed_at: datetime | None
    lasts: timedelta


@dataclass(frozen=True, slots=True)
class TemplateCheck:
    """A PodTemplate that jobs name."""

    labelled: bool
    has_container: bool
    """Whether it has the container that runs the job."""


@dataclass(frozen=True, slots=True)
class CheckResults:
    """The results. Those missing were not asked for, since an earlier result made them pointless."""

    server: str
    namespace: str
    away: ApiRefusal | None = None
    """Why nothing else was asked."""
    user: str = ""
    """The API server's name of the account; empty if it doesn't say."""
    served: tuple[str, ...] = ()
    """The served versions of the API group."""
    kinds: frozenset[str] = frozenset()
    """The served resources of the group in this release's version."""
    rights: Mapping[Right, bool | ApiRefusal] = field(default_factory=dict)
    dry_runs: Mapping[str, ApiRefusal | None] = field(default_factory=dict)
    """By job type; None if its SpokeJob would have been created."""
    templates: Mapping[str, TemplateCheck | ApiRefusal] = field(default_factory=dict)
    """By name."""
    published: Published | ApiRefusal | None = None
    """None if the operator has published nothing in the namespace."""
    lease: OperatorLease | ApiRefusal | None = None
    """None if it wasn't asked for."""
