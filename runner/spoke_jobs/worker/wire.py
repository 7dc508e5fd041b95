"""What supervisor and child say to each other: one JSON object a line, over a socket pair."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Order:
    """From the supervisor: run this claimed attempt."""

    job_id: int
    number: int
    token: UUID
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """From the child: ready for an order, after ``exit_code`` of the one before (None at the start)."""

    exit_code: int | None = None
    last: bool = False
    """It was told to stop and begins no order any more, not even one that is on its way; it ends once it is let go."""


def encode(message: Order | Report) -> bytes:
    """One line."""
    return (json.dumps(asdict(message), default=str) + "\n").encode()


def decode_order(line: bytes) -> Order:
    """Read :func:`encode`'s line back."""
    value: dict[str, Any] = json.loads(line)
    return Order(value["job_id"], value["number"], UUID(value["token"]), value["lease_seconds"])


def decode_report(line: bytes) -> Report:
    """Read :func:`encode`'s line back."""
    return Report(**json.loads(line))
