"""Leave the scopes of which nothing may start now out of a search for jobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import not_, or_

from spoke_jobs.contract.option_checks import LARGEST_NUMBER
from spoke_jobs.ledger.due_jobs import like_patterns
from spoke_jobs.ledger.expressions import known_in_sql
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.limits.admission import Closed

OPEN = """
      AND NOT (job_type = ANY(:closed_types) OR job_type LIKE ANY(:closed_patterns))
      AND NOT (queue_name = ANY(:closed_queues) OR (:every_queue AND queue_name <> ''))
      AND NOT coalesce(limit_key = ANY(:closed_keys), false)
      AND (organization_id IS NULL OR NOT (:every_organization OR organization_id = ANY(:closed_organizations)))"""
"""PostgreSQL, with the parameters of :func:`closed_values`."""


def closed_values(closed: Closed) -> dict[str, Any]:
    """Return the parameters of :data:`OPEN`."""
    return {
        "closed_types": list(closed.types),
        "closed_patterns": like_patterns(closed.types),
        "closed_queues": list(closed.queues),
        "closed_organizations": _organizations(closed),
        "closed_keys": list(closed.keys),
        "every_queue": closed.every_queue,
        "every_organization": closed.every_organization,
    }


def open_conditions(closed: Closed) -> list[Any]:
    """Return the same as conditions of SQLAlchemy."""
    organization, queue, key = job_request.c.organization_id, job_request.c.queue_name, job_request.c.limit_key
    return [
        not_(known_in_sql(job_request.c.job_type, closed.types)),
        queue == "" if closed.every_queue else queue.not_in(closed.queues),
        or_(key.is_(None), key.not_in(closed.keys)),
        organization.is_(None)
        if closed.every_organization
        else or_(organization.is_(None), organization.not_in(_organizations(closed))),
    ]


def _organizations(closed: Closed) -> list[int]:
    return [number for number in closed.organizations if number <= LARGEST_NUMBER]
