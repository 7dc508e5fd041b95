"""The names and attributes of spans, by OpenTelemetry's conventions for messaging. Pure.

A job's type, or a task's name, is the destination that a message is sent to. No attribute holds a payload, a result or
the text of an exception, because these may hold values of people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum

from spoke_jobs.errors import RetryLater
from spoke_jobs.middleware.hooks import AttemptCall, DispatchCall, TaskCall
from spoke_jobs.model import JobRequest

SYSTEM = "spoke_jobs"
ERROR_TYPE = "error.type"
MESSAGE_ID = "messaging.message.id"
CAUSE = "messaging.spoke_jobs.cause"
_NAME = "messaging.destination.name"
_TEMPLATE = "messaging.destination.template"
_COUNT = "messaging.batch.message_count"

Attributes = Mapping[str, str | int]


class Operation(StrEnum):
    """What a span is about, as its name begins."""

    SEND = "send"
    CLAIM = "claim"
    PROCESS = "process"
    COMPLETE = "complete"


_TYPES = {
    Operation.SEND: "send",
    Operation.CLAIM: "receive",
    Operation.PROCESS: "process",
    Operation.COMPLETE: "settle",
}
"""The conventions' types of operations."""


@dataclass(frozen=True, slots=True)
class SpanValues:
    """What a span is named, and its attributes at its start."""

    name: str
    attributes: Attributes


def of_dispatch(call: DispatchCall, pattern: str = "") -> SpanValues:
    """Return the values of a dispatch.

    :param pattern: the declaration's name if it stands for many types.
    """
    names = {_text(job.job_type) for job in call.jobs} if call.jobs else {_text(call.task)}
    name = names.pop() if len(names) == 1 else ""
    more: dict[str, str | int] = {_COUNT: len(call.jobs)} if len(call.jobs) != 1 and not call.task else {}
    queues = {job.queue_name for job in call.jobs if job.queue_name}
    if len(queues) == 1 and len(call.jobs) == 1:
        more["messaging.spoke_jobs.queue"] = queues.pop()
    return _values(Operation.SEND, name, pattern if name else "", more)


def of_row(job: JobRequest) -> Attributes:
    """Return what is known of a job once it has a row."""
    return {MESSAGE_ID: str(job.uid), "messaging.spoke_jobs.job_id": job.id}


def of_attempt(operation: Operation, call: AttemptCall) -> SpanValues:
    """Return the values of an operation of an attempt."""
    job = call.job
    more: dict[str, str | int] = {
        **of_row(job),
        "messaging.spoke_jobs.run": job.run,
        "messaging.spoke_jobs.attempt": call.attempt,
        "messaging.spoke_jobs.runner": job.runner,
    }
    if job.queue_name:
        more["messaging.spoke_jobs.queue"] = job.queue_name
    return _values(operation, job.job_type, call.pattern, more)


def of_task(call: TaskCall) -> SpanValues:
    """Return the values of a run of a task."""
    more: dict[str, str | int] = {MESSAGE_ID: call.id, "messaging.spoke_jobs.attempt": call.attempt}
    return _values(Operation.PROCESS, call.name, call.pattern, more)


def error_type(error: BaseException) -> str:
    """Return the type of an error; empty if the function only asked to be run again later."""
    if isinstance(error, RetryLater):
        return ""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return _sendable(name)


def _values(operation: Operation, name: str, pattern: str, more: Attributes) -> SpanValues:
    name = _sendable(name)
    destination = {_NAME: name} if name else {}
    if pattern:
        destination[_TEMPLATE] = pattern
    return SpanValues(
        f"{operation} {pattern or name}".rstrip(),
        {
            "messaging.system": SYSTEM,
            "messaging.operation.name": operation.value,
            "messaging.operation.type": _TYPES[operation],
            **destination,
            **{key: _sendable(value) if isinstance(value, str) else value for key, value in more.items()},
        },
    )


def _sendable(text: str) -> str:
    """Replace what UTF-8 cannot encode. JSON may escape it, and one such name would stop a batch of spans."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _text(name: object) -> str:
    """Return a name that may be a member of an enumeration, or no name at all: then its dispatch is refused."""
    return str(name.value if isinstance(name, Enum) else name)
