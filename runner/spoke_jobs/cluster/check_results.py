"""What `spoke-jobs check` found in a cluster: frozen, and without a client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from spoke_jobs.cluster.cluster_view import Published
from spoke_jobs.cluster.rights import Right


@dataclass(frozen=True, slots=True)
class ApiRefusal:
    """An answer that is none of the hoped-for."""

    status: int
    """HTTP's; 0 for no answer."""
    message: str


@dataclass(frozen=True, slots=True)
class OperatorLease:
    """The operator's, by which one of its replicas leads."""

    holder: str
    renewed_at: datetime | None
    lasts: timedelta


@dataclass(frozen=True, slots=True)
class TemplateCheck:
    """A PodTemplate that jobs name."""

    labelled: bool
    has_container: bool
    """Whether it has the one that runs the job."""


@dataclass(frozen=True, slots=True)
class CheckResults:
    """What was asked, and what came of it. What is missing was not asked, since an earlier answer made it idle."""

    server: str
    namespace: str
    away: ApiRefusal | None = None
    """Why nothing else was asked."""
    user: str = ""
    """As the API server names who asks; empty if it doesn't say."""
    served: tuple[str, ...] = ()
    """The versions in which it serves our group."""
    kinds: frozenset[str] = frozenset()
    """The resources of our group in our version."""
    rights: Mapping[Right, bool | ApiRefusal] = field(default_factory=dict)
    dry_runs: Mapping[str, ApiRefusal | None] = field(default_factory=dict)
    """By the job's type; None where its SpokeJob would have been created."""
    templates: Mapping[str, TemplateCheck | ApiRefusal] = field(default_factory=dict)
    """By name."""
    published: Published | ApiRefusal | None = None
    """None if the operator has published nothing in the namespace."""
    lease: OperatorLease | ApiRefusal | None = None
    """None if it wasn't asked for."""
