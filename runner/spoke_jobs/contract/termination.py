"""How a job's container reports its end to the operator: by the exit code and the termination message.

The message is a small JSON object in ``/dev/termination-log``. It holds causes and exception types, never values.
Exception texts of pydantic and SQLAlchemy contain the refused values, so they stay in the ledger.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from spoke_jobs.contract import CONTRACT_VERSION
from spoke_jobs.contract.retry import is_wait

PATH = Path("/dev/termination-log")
LIMIT_BYTES = 4096
"""Kubernetes keeps only this much of a container's termination message."""
_NAME_LIMIT = 200


class ExitCode(IntEnum):
    """How an attempt's process ended. With any other code, the process exited without reporting."""

    DONE = 0
    """Success is recorded in the ledger. Nothing else may exit with this code."""
    FAILED = 10
    """The attempt failed. Another one follows if the budget of the cause's class allows it."""
    FAILED_FOR_GOOD = 11
    """The attempt failed, and another attempt cannot succeed: for example an invalid payload."""
    HELD = 12
    """Another job holds the queue's lock. Another attempt follows later; this one is not charged."""
    SUPERSEDED = 13
    """Another process has the claim. This one has recorded nothing."""
    INTERRUPTED = 14
    """The process got a SIGTERM before the job had ended."""


@dataclass(frozen=True, slots=True)
class TerminationMessage:
    """How the attempt ended, without any value of the payload or the error."""

    cause: str = ""
    """Empty after a success; else a name of :data:`spoke_jobs.contract.causes.CAUSES`."""
    error_type: str = ""
    """The exception's class, with its module; empty if none was raised."""
    for_good: bool = False
    retry_after_seconds: float | None = None
    """When the job asked to be run again; None leaves the time to the retry policy."""
    version: int = CONTRACT_VERSION

    def encode(self) -> bytes:
        """Return at most :data:`LIMIT_BYTES` of JSON."""
        return json.dumps(
            {
                "v": self.version,
                "cause": self.cause[:_NAME_LIMIT],
                "errorType": self.error_type[:_NAME_LIMIT],
                "forGood": self.for_good,
            }
            | ({} if self.retry_after_seconds is None else {"retryAfterSeconds": self.retry_after_seconds}),
            separators=(",", ":"),
        ).encode()

    def write(self, path: Path = PATH) -> None:
        """Write the message to the file that Kubernetes reads. Do nothing outside a pod, where it does not exist."""
        if path.exists():
            path.write_bytes(self.encode())


def decode(text: str | bytes | None) -> TerminationMessage | None:
    """Read a message; None for any other text, such as a crash's output or another program's message."""
    if not text:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("v"), int) or isinstance(value["v"], bool):
        return None
    after: Any = value.get("retryAfterSeconds")
    cause, error_type = value.get("cause", ""), value.get("errorType", "")
    if not isinstance(cause, str) or not isinstance(error_type, str):
        return None
    return TerminationMessage(
        cause=cause[:_NAME_LIMIT],
        error_type=error_type[:_NAME_LIMIT],
        for_good=value.get("forGood") is True,
        retry_after_seconds=float(after) if is_wait(after) else None,
        version=value["v"],
    )
