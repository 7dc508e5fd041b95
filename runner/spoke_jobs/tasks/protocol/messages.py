"""What is sent: tasks and acknowledgements, their limits, and the key that both sides may share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from spoke_jobs.errors import ConfigurationError

PATH = "/v1/tasks"
NDJSON = "application/x-ndjson"
JSON = "application/json"
AUDIENCE = "spoke-tasks"
"""The audience of a service account's token for task servers."""
BODY_LIMIT_BYTES = 4_194_304
"""Of a request."""
BATCH_LIMIT = 1_000
"""Tasks in one request."""
ID_LIMIT = 100
NAME_LIMIT = 200
ATTEMPT_LIMIT = 1_000_000
RETRY_LIMIT_SECONDS = 86_400.0

_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{ID_LIMIT}}}", re.ASCII)


class TaskOutcome(StrEnum):
    """How a task ended in the server that acknowledges it."""

    DONE = "done"
    FAILED = "failed"
    """Deliver it again, as the next attempt."""
    FAILED_FOR_GOOD = "failed_for_good"
    RETURNED = "returned"
    """Not run, or not to its end, for a reason outside the task: deliver it again, as the same attempt."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it is sent."""

    id: str
    """The same at every delivery; letters, digits and ``._:-``, at most 100 characters."""
    name: str
    payload: str
    """JSON text."""
    attempt: int = 1
    """From 1: one more than the runs of it that failed."""
    waited: float = 0.0
    """Seconds from its dispatch until it was sent."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """An entry of a batch that is not a task."""

    position: int
    """From 0."""
    id: str | None
    """Its id; None if that cannot be read."""
    reason: str
    """What is wrong with its form, without any of its values."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One line of an answer."""

    id: str | None
    """None for an entry without a readable id: then ``detail`` gives its position."""
    outcome: TaskOutcome
    cause: str = ""
    """A :class:`spoke_jobs.contract.causes.TaskCause`, or one of a newer release; empty for ``done``."""
    detail: str = ""
    """For people: an exception's type, or what is wrong with the form."""
    retry_seconds: float | None = None
    """For ``failed``: when to deliver the next attempt, by the task's options."""


def is_task_id(text: str) -> bool:
    """Return whether ``text`` is a valid id of a task."""
    return _ID.fullmatch(text) is not None


def usable_key(key: str) -> str:
    """Return the shared key, if it can be used.

    :raises ConfigurationError: else; it names the setting, never the key.
    """
    if not key:
        raise ConfigurationError(
            "SPOKE_TASKS_KEY is not set: set it to the key that dispatchers and task deployment share"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("SPOKE_TASKS_KEY can't be sent in a header: use ASCII letters, digits and signs only")
    return key
