"""A worker's :class:`~spoke_jobs.model.ClaimFilter` as a condition of its claims."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, false, not_, or_

from spoke_jobs.ledger.filters import like_pattern, matching
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import ANY_CLAIM, ClaimFilter

FILTER = """
      AND (:any_type OR job_type LIKE ANY(:only_types)) AND NOT (job_type LIKE ANY(:not_types))
      AND (:any_queue OR queue_name LIKE ANY(:only_queues)) AND NOT (queue_name LIKE ANY(:not_queues))
      AND (:queue_locks OR NOT locks_queue)"""
"""PostgreSQL, with the parameters of :func:`filter_values`. A statement without a filter does not have it."""


def filter_values(only: ClaimFilter) -> dict[str, Any]:
    """Return the parameters of :data:`FILTER`; none if there is no filter."""
    if only == ANY_CLAIM:
        return {}
    return {
        "any_type": not only.types,
        "only_types": list(map(like_pattern, only.types)),
        "not_types": list(map(like_pattern, only.not_types)),
        "any_queue": not only.queues,
        "only_queues": list(map(like_pattern, only.queues)),
        "not_queues": list(map(like_pattern, only.not_queues)),
        "queue_locks": only.queue_locks,
    }


def filter_conditions(only: ClaimFilter) -> list[ColumnElement[bool]]:
    """Return the same as conditions of SQLAlchemy."""

    def any_of(column: ColumnElement[str], patterns: Iterable[str]) -> ColumnElement[bool]:
        return or_(false(), *(matching(column, pattern) for pattern in patterns))

    job_type, queue = job_request.c.job_type, job_request.c.queue_name
    return [
        *([any_of(job_type, only.types)] if only.types else []),
        *([any_of(queue, only.queues)] if only.queues else []),
        *([not_(any_of(job_type, only.not_types))] if only.not_types else []),
        *([not_(any_of(queue, only.not_queues))] if only.not_queues else []),
        *([] if only.queue_locks else [not_(job_request.c.locks_queue)]),
    ]
