"""What `spoke-jobs check` found in a cluster. Frozen; this module does not import the Kubernetes client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from spoke_jobs.cluster.cluster_view import Published
from spoke_jobs.cluster.rights import Right


@dataclass(frozen=True, slots=True)
class ApiRefusal:
    """An error of a call to the API server."""

    status: int
    """The HTTP status; 0 if there was no answer."""
    message: str


@dataclass(frozen=True, slots=True)
class OperatorLease:
    """The operator's Lease, which says which replica leads."""

    holder: str
    renewed_at: datetime | None
    lasts: timedelta


@dataclass(frozen=True, slots=True)
class TemplateCheck:
    """A PodTemplate that jobs name: whether jobs can use it."""

    labelled: bool
    has_container: bool
    """Whether it has the container that runs the job."""


@dataclass(frozen=True, slots=True)
class CheckResults:
    """The results. If an earlier result makes a check pointless, its field keeps the default."""

    server: str
    namespace: str
    away: ApiRefusal | None = None
    """Why the cluster could not be asked; the other fields are then unset."""
    user: str = ""
    """The account's name, as the API server gives it; empty if it is unknown."""
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
