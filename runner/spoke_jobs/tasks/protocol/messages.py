"""What is sent: a task, an acknowledgement, their limits, and the key that both sides may share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from spoke_jobs.errors import ConfigurationError

PATH = "/v1/tasks"
NDJSON = "application/x-ndjson"
JSON = "application/json"
AUDIENCE = "spoke-tasks"
"""Of a service account's token that is shown to a task server."""
BODY_LIMIT_BYTES = 4_194_304
BATCH_LIMIT = 1_000
"""Tasks in one request."""
ID_LIMIT = 100
NAME_LIMIT = 200
ATTEMPT_LIMIT = 1_000_000
RETRY_LIMIT_SECONDS = 86_400.0

_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{ID_LIMIT}}}", re.ASCII)


class TaskOutcome(StrEnum):
    """How a task ended, as far as the server is concerned."""

    DONE = "done"
    FAILED = "failed"
    """It may be tried again, as the next attempt."""
    FAILED_FOR_GOOD = "failed_for_good"
    RETURNED = "returned"
    """Not run, or not to its end, through no fault of the task: deliver it again, as the same attempt."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task on its way."""

    id: str
    """The same at every delivery; letters, digits and ``._:-``, at most 100 characters."""
    name: str
    payload: str
    """JSON text."""
    attempt: int = 1
    """One more than the runs of it that are known to have failed."""
    waited: float = 0.0
    """For how many seconds its dispatcher had held it when it sent it."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """An entry of a batch that isn't a task."""

    position: int
    """From 0."""
    id: str | None
    """Its id, if that much could be read."""
    reason: str
    """A sentence about the form; no value of it."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One line of an answer."""

    id: str | None
    """None only for an entry without a readable id; then ``detail`` says which it was."""
    outcome: TaskOutcome
    cause: str = ""
    """A :class:`spoke_jobs.contract.causes.TaskCause`, or a newer release's; empty for ``done``."""
    detail: str = ""
    """For a person: an exception's type, or what is wrong with the form."""
    retry_seconds: float | None = None
    """Of ``failed``: in how many it is to be tried again, by the task's own declaration."""


def is_task_id(text: str) -> bool:
    """Whether ``text`` may be a task's id."""
    return _ID.fullmatch(text) is not None


def usable_key(key: str) -> str:
    """The key, if it is one.

    :raises ConfigurationError: naming the setting, never the key.
    """
    if not key:
        raise ConfigurationError("SPOKE_TASKS_KEY is not set: dispatchers and task deployment must share a key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("SPOKE_TASKS_KEY can't be sent in a header: use ASCII letters, digits and signs only")
    return key
