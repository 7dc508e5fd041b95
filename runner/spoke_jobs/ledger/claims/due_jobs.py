"""The search for due jobs that may be claimed: its condition, its order and its parameters.

It starts from the head of the order of claims, from a position in it, or goes through given jobs (:class:`Start`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import product
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    RowMapping,
    Select,
    TextClause,
    bindparam,
    select,
    text,
    tuple_,
)

from spoke_jobs.ledger.claims.claim_request import ClaimRequest
from spoke_jobs.ledger.claims.eligibility import CLAIMABLE, Condition, Selected, in_sql, in_text, of_claim
from spoke_jobs.ledger.rows import MANY_COLUMNS
from spoke_jobs.ledger.tables import job_request


class Start(Enum):
    """Where a search starts."""

    HEAD = ""
    PLACE = "(rank, id) >= (:rank, :after)"
    TURNS = "id = ANY(cast(:turns AS bigint[]))"
    """It goes through given jobs, in their order: that of turns (:mod:`.claim_turns`)."""


class Variant(NamedTuple):
    """A form of the search. Each is a statement of its own, so that none pays for a condition that it does not need."""

    start: Start
    filtered: bool
    """Whether the worker takes only a part of the jobs of its types."""

    @classmethod
    def of(cls, request: ClaimRequest) -> Variant:
        """Return the form that a request needs."""
        start = Start.TURNS if request.turns else Start.HEAD if request.place is None else Start.PLACE
        return cls(start, request.filtered)


VARIANTS = tuple(Variant(*values) for values in product(Start, (False, True)))


def search(variant: Variant, *more: type[Condition]) -> str:
    """Return the condition, the order and the number of due jobs that may be claimed (PostgreSQL).

    :param more: further conditions.
    """
    order = "array_position(cast(:turns AS bigint[]), id)" if variant.start is Start.TURNS else "rank, id"
    parts = [
        in_text(*CLAIMABLE, *more),
        *([variant.start.value] if variant.start.value else []),
        *([in_text(Selected)] if variant.filtered else []),
    ]
    return "\n      AND ".join(parts) + f"\n    ORDER BY {order}\n    LIMIT :limit"


def search_values(request: ClaimRequest) -> dict[str, Any]:
    """Return the parameters of the search."""
    values: dict[str, Any] = {"limit": request.limit}
    for condition in of_claim(request):
        values |= condition.values()
    if request.turns:
        values["turns"] = list(request.turns)
    elif request.place is not None:
        values["rank"], values["after"] = request.place
    return values


def search_text(statement: str) -> TextClause:
    """Make a statement that contains the search.

    The limit is a constant in the text: the generic plan of the prepared statement then expects few rows and uses an
    index instead of a sequential scan.
    """
    return text(statement).bindparams(bindparam("limit", type_=Integer, literal_execute=True))


def steps_search(request: ClaimRequest) -> Select[Any]:
    """Select due jobs that may be claimed, in the order of claims (SQLite). Of given jobs, select all, in any order."""
    statement = select(*MANY_COLUMNS).where(*in_sql(*of_claim(request)))
    if request.turns:
        return statement.where(job_request.c.id.in_(request.turns))
    if request.place is not None:
        statement = statement.where(tuple_(job_request.c.rank, job_request.c.id) >= request.place)
    return statement.order_by(job_request.c.rank, job_request.c.id).limit(request.limit)


def found_in_steps(
    connection: Connection, request: ClaimRequest, *conditions: ColumnElement[bool]
) -> Sequence[RowMapping]:
    """Read due jobs that may be claimed, in the order of claims or in the given order (SQLite)."""
    rows = connection.execute(steps_search(request).where(*conditions)).mappings().all()
    if request.turns:
        positions = {job_id: position for position, job_id in enumerate(request.turns)}
        return sorted(rows, key=lambda row: positions[row["id"]])[: request.limit]
    return rows
