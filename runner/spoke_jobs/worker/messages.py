"""What supervisor and children say to each other: one JSON object a line, over a socket pair."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from spoke_jobs.model import Claim, JobOptions, JobRequest, JobState

INLINE_LIMIT = 2_000
"""Rows with a payload up to this many characters travel with their order; a child reads others from the ledger."""


@dataclass(frozen=True, slots=True)
class Order:
    """From the supervisor: run this claimed attempt."""

    job_id: int
    number: int
    token: UUID
    lease_seconds: float
    asked_at: float | None = None
    """See :class:`spoke_jobs.model.Claim`: supervisor and children are on one machine, and so share its clock."""
    job: JobRequest | None = None
    """The row, if it is small."""

    @classmethod
    def of(cls, claim: Claim) -> Order:
        """The order to run what a claim grants."""
        small = claim.job if len(claim.job.payload) <= INLINE_LIMIT else None
        return cls(claim.job.id, claim.number, claim.token, claim.lease_seconds, claim.asked_at, small)


@dataclass(frozen=True, slots=True)
class Stop:
    """From the supervisor to an event loop's child: end this attempt, or (without a token) ask all to stop."""

    token: UUID | None = None
    overtime: bool = False
    """Its timeout is over, where it is not cancelled."""


@dataclass(frozen=True, slots=True)
class Report:
    """From the child: ready for an order, after ``exit_code`` of the one before (None at the start)."""

    exit_code: int | None = None
    last: bool = False
    """It was told to stop and begins no order any more, not even one that is on its way; it ends once it is let go."""
    token: UUID | None = None
    """Which order it is about, where a child runs many."""


def encode(message: Order | Stop | Report) -> bytes:
    """One line."""
    value = {field.name: getattr(message, field.name) for field in fields(message)}
    if value.get("job") is not None:
        value["job"] = _plain(value["job"])
    return (json.dumps({"kind": type(message).__name__} | value, default=str) + "\n").encode()


def decode(line: bytes) -> Order | Stop | Report:
    """Read :func:`encode`'s line back."""
    value: dict[str, Any] = json.loads(line)
    kind = value.pop("kind")
    token = value["token"] = UUID(value["token"]) if value["token"] is not None else None
    if kind == "Stop":
        return Stop(**value)
    if kind == "Report":
        return Report(**value)
    assert token is not None
    if value["job"] is not None:
        value["job"] = _row(value["job"])
    return Order(**value)


def _plain(job: JobRequest) -> dict[str, Any]:
    value = {field.name: getattr(job, field.name) for field in fields(job)}
    return value | {"options": job.options.to_json()}


_TIMES = tuple(field.name for field in fields(JobRequest) if "datetime" in str(field.type))


def _row(value: dict[str, Any]) -> JobRequest:
    times = {name: datetime.fromisoformat(value[name]) for name in _TIMES if value[name] is not None}
    return JobRequest(
        **value
        | times
        | {
            "uid": UUID(value["uid"]),
            "state": JobState(value["state"]),
            "options": JobOptions.from_json(value["options"]),
        }
    )
