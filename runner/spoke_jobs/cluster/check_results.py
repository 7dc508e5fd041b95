"""What `spoke-jobs check` found in a cluster. Frozen; this module does not import the Kubernetes client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from spoke_jobs.cluster.cluster_view import PublishedTurns
from spoke_jobs.cluster.rights import Right
from spoke_jobs.contract import names
from spoke_jobs.contract.allowed_types import ANNOTATION_TYPES, allows_type, length_problem
from spoke_jobs.limits.published_limits import PublishedView
from spoke_jobs.shared.object_fields import Body, items, mapping, text


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

    labeled: bool
    has_container: bool
    """Whether the template has the container that runs the job."""
    not_for: tuple[str, ...] = ()
    """The declared types that name the template and may not use it."""
    too_long: str = ""
    """Why the annotation that lists the types can't be read; empty if it can."""

    @classmethod
    def of(cls, found: Body, types: Iterable[str] = ()) -> Self:
        """Examine a PodTemplate.

        :param types: the declared types that name it.
        """
        labels, annotations = (mapping(mapping(found, "metadata"), name) for name in ("labels", "annotations"))
        containers = items(mapping(mapping(found, "template"), "spec"), "containers")
        return cls(
            labeled=text(labels, names.LABEL_TEMPLATE) == "true",
            has_container=any(text(container, "name") == names.CONTAINER for container in containers),
            not_for=tuple(kind for kind in types if not allows_type(annotations, kind)),
            too_long=length_problem(annotations, ANNOTATION_TYPES),
        )


@dataclass(frozen=True, slots=True)
class CheckResults:
    """The results. If an earlier result makes a check pointless, the field of that check keeps its default."""

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
    """By job type; None if the SpokeJob would have been created."""
    templates: Mapping[str, TemplateCheck | ApiRefusal] = field(default_factory=dict)
    """By name."""
    published: PublishedTurns | ApiRefusal | None = None
    """None if the operator has published nothing in the namespace."""
    ledger: str = ""
    """The ledger's identity."""
    limits: Mapping[str, PublishedView] | ApiRefusal | None = None
    """The SpokeLimits that sync made for the ledger, by name; None if the account may not list them."""
    lease: OperatorLease | ApiRefusal | None = None
    """None if the caller named no Lease."""
