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
from spoke_jobs.shared.clean_text import ERROR_TYPE_LIMIT, error_type, is_cause_name
from spoke_jobs.shared.strict_json import NotJson, read_json_object

PATH = Path("/dev/termination-log")
DATABASE_REFUSED = "DatabaseRefused"
"""The `error_type` of an attempt whose database answered, and refused the user, the password or the database's name."""
LIMIT_BYTES = 4096
"""Kubernetes keeps only this much of a container's termination message."""


class ExitCode(IntEnum):
    """How an attempt's process ended. With any other code, the process exited without reporting."""

    DONE = 0
    """Success is recorded in the ledger. Nothing else may exit with this code."""
    FAILED = 10
    """The attempt failed. Another one follows if the budget of the cause's class allows it."""
    FAILED_FOR_GOOD = 11
    """The attempt failed, and another attempt cannot succeed: for example an invalid payload."""
    HELD = 12
    """Another job holds the queue's lock, or the job is paused. Another attempt follows later; this one is not charged.
    """
    SUPERSEDED = 13
    """Another process has the claim. This one has recorded nothing."""
    INTERRUPTED = 14
    """The process got a SIGTERM before the job had ended."""
    DATABASE_AWAY = 15
    """The database did not answer, so the attempt's end is not recorded. Only a worker's child processes use this code:
    the worker records the end once the database answers. A pod reports FAILED with the cause DatabaseUnreachable."""
    NOT_STARTED = 16
    """The attempt was not started: it would have come too late for the token of a rate, its job is paused, or its claim
    had become too old. Only a worker's child processes use this code: the worker releases the claim, uncharged."""


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
    recorded: bool = False
    """Whether the process has recorded the failure in the ledger, so that the ledger's database answers."""
    version: int = CONTRACT_VERSION

    def encode(self) -> bytes:
        """Return at most :data:`LIMIT_BYTES` of JSON."""
        return json.dumps(
            {
                "v": self.version,
                "cause": self.cause if is_cause_name(self.cause) else "",
                "errorType": error_type(self.error_type[:ERROR_TYPE_LIMIT]),
                "forGood": self.for_good,
            }
            | ({} if self.retry_after_seconds is None else {"retryAfterSeconds": self.retry_after_seconds})
            | ({"recorded": True} if self.recorded else {}),
            separators=(",", ":"),
        ).encode()

    def write(self, path: Path = PATH) -> None:
        """Write the message to the file that Kubernetes reads. Outside a pod, where the file is missing, do nothing."""
        if path.exists():
            path.write_bytes(self.encode())


def decode(text: str | bytes | None) -> TerminationMessage | None:
    """Read a message; None for any other text, such as a crash's output or another program's message.

    The job's own code may have written it, so any text is valid input.
    """
    value = read_json_object(text or b"", LIMIT_BYTES)
    if isinstance(value, NotJson) or not isinstance(value.get("v"), int) or isinstance(value["v"], bool):
        return None
    after: Any = value.get("retryAfterSeconds")
    cause, raised = value.get("cause", ""), value.get("errorType", "")
    if not isinstance(cause, str) or not isinstance(raised, str) or not (cause == "" or is_cause_name(cause)):
        return None
    return TerminationMessage(
        cause=cause,
        error_type=error_type(raised),
        for_good=value.get("forGood") is True,
        retry_after_seconds=float(after) if is_wait(after) else None,
        recorded=value.get("recorded") is True,
        version=value["v"],
    )
