"""Messages between supervisor and children: one JSON object per line, over a socket pair."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from typing import Any, get_args, get_type_hints
from uuid import UUID

from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.contract.trace_context import is_trace_id
from spoke_jobs.execution.lease import StopReason
from spoke_jobs.model import Claim, JobOptions, JobRequest, JobState, UnreadPayload
from spoke_jobs.shared.strict_json import NotJson, read_json_object

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """From the supervisor: run this claimed attempt."""

    job_id: int
    number: int
    token: UUID
    lease_seconds: float
    asked_at: float | None = None
    """See :class:`spoke_jobs.model.Claim`. Supervisor and children share one machine and its monotonic clock."""
    job: JobRequest | None = None
    """The job's row, if the claim has read its payload. Otherwise the child reads the ledger."""
    start_by: float = math.inf
    """See :class:`spoke_jobs.model.Claim`."""

    @classmethod
    def of(cls, claim: Claim) -> Order:
        """Make the order for a claim."""
        job = None if isinstance(claim.job.payload, UnreadPayload) else claim.job
        return cls(claim.job.id, claim.number, claim.token, claim.lease_seconds, claim.asked_at, job, claim.start_by)


@dataclass(frozen=True, slots=True)
class Stop:
    """From the supervisor to an async child: stop this attempt, or without a token ask all attempts to stop."""

    token: UUID | None = None
    reason: StopReason = StopReason.CANCELLED
    """Why this attempt has to stop."""


@dataclass(frozen=True, slots=True)
class Report:
    """From the child: ready for an order. ``exit_code`` is that of the previous attempt, an
    :class:`~spoke_jobs.contract.termination.ExitCode`; None in the first report."""

    exit_code: int | None = None
    last: bool = False
    """Whether the child was told to stop. It then starts no further order, and exits once its connection is closed."""
    token: UUID | None = None
    """The token of the order that ended."""
    trace_id: str = ""
    """The sampled trace of the attempt; empty if there is none."""


_NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in (Order, Stop, Report)}
_ENCODER = json.JSONEncoder(separators=(",", ":"), default=str)


def encode(message: Order | Stop | Report) -> bytes:
    """Encode a message as one line."""
    kind = type(message)
    value = {"kind": kind.__name__} | {name: getattr(message, name) for name in _NAMES[kind]}
    if value.get("job") is not None:
        value["job"] = _plain(value["job"])
    return (_ENCODER.encode(value) + "\n").encode()


def decode(line: bytes) -> Order | Stop | Report:
    """Decode a line of :func:`encode`."""
    value: dict[str, Any] = json.loads(line)
    kind = value.pop("kind")
    token = value["token"] = UUID(value["token"]) if value["token"] is not None else None
    if kind == "Stop":
        return Stop(token, StopReason(value["reason"]))
    if kind == "Report":
        return Report(**value)
    assert token is not None
    if value["job"] is not None:
        value["job"] = _row(value["job"])
    return Order(**value)


async def read_message(reader: asyncio.StreamReader) -> Order | Stop | Report | None:
    """Read a message of the supervisor; None once it has closed the connection, or can no longer be understood."""
    try:
        line = await reader.readline()
        return decode(line) if line else None
    except ConnectionError:
        return None
    except Exception:  # a job's code has read a part of the message from the socket
        logger.exception("could not read the supervisor's message; taking no more jobs")
        return None


def decode_report(line: bytes) -> Report | None:
    """Read a line that a child has sent; None if it is no report. The job's own code may have written it."""
    value = read_json_object(line)
    if isinstance(value, NotJson) or value.get("kind") != Report.__name__:
        return None
    code, last, token = value.get("exit_code"), value.get("last"), value.get("token")
    try:
        uid = UUID(token) if isinstance(token, str) else None
    except ValueError:
        return None
    if (
        not (code is None or (type(code) is int and code in _EXIT_CODES))
        or type(last) is not bool
        or not (uid or token is None)
    ):
        return None
    trace_id = value.get("trace_id")
    return Report(code, last, uid, trace_id if is_trace_id(trace_id) else "")


_EXIT_CODES = frozenset(ExitCode)


_TIMES = tuple(name for name, hint in get_type_hints(JobRequest).items() if datetime in (hint, *get_args(hint)))
_JOB = tuple((field.name, field.default) for field in fields(JobRequest))
_OPTIONS = JobOptions().to_json()


def _plain(job: JobRequest) -> dict[str, Any]:
    """Return what differs from the defaults: that is short, and every job of a busy worker is sent."""
    value = {name: given for name, default in _JOB if (given := getattr(job, name)) != default or default is MISSING}
    value["options"] = {key: given for key, given in job.options.to_json().items() if given != _OPTIONS[key]}
    return value


def _row(value: dict[str, Any]) -> JobRequest:
    for name in _TIMES:
        if name in value:
            value[name] = datetime.fromisoformat(value[name])
    value["uid"], value["state"] = UUID(value["uid"]), JobState(value["state"])
    value["options"] = JobOptions.from_json(value["options"])
    return JobRequest(**value)
