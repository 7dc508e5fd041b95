"""Tasks and acknowledgements as they are sent, their limits, and the key that both sides may share."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from enum import StrEnum

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.secret_file import Secret, value_of

PATH = "/v1/tasks"
NDJSON = "application/x-ndjson"
JSON = "application/json"
AUDIENCE = "spoke-tasks"
"""The audience of a service account's token for task servers."""
BODY_LIMIT_BYTES = 4_194_304
"""The largest body of a request."""
BATCH_LIMIT = 1_000
"""The most tasks in one request."""
ID_LIMIT = 100
NAME_LIMIT = 200
ATTEMPT_LIMIT = 1_000_000
RETRY_LIMIT_SECONDS = 86_400.0
KEY_LENGTH = 32
"""The fewest characters of a shared key: 16 random bytes as hexadecimal digits."""

_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{ID_LIMIT}}}", re.ASCII)

logger = logging.getLogger(__name__)


class TaskOutcome(StrEnum):
    """How a task ended in the server that acknowledges it."""

    DONE = "done"
    FAILED = "failed"
    """Deliver it again, as the next attempt."""
    FAILED_FOR_GOOD = "failed_for_good"
    RETURNED = "returned"
    """The task did not run to its end, for a reason outside the task. Deliver it again, as the same attempt."""


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it is sent."""

    id: str
    """The same at every delivery; letters, digits and ``._:-``, at most 100 characters."""
    name: str
    payload: str
    """JSON text."""
    attempt: int = 1
    """From 1; each failed run adds one."""
    waited: float = 0.0
    """Seconds from the task's dispatch until it was sent."""
    traceparent: str = ""
    """The W3C trace context of the dispatch; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """An entry of a batch that is not a task."""

    position: int
    """The entry's position in the batch, from 0."""
    id: str | None
    """The entry's id; None if it cannot be read."""
    reason: str
    """What is wrong with the entry's form, without its values."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One line of an answer."""

    id: str | None
    """None for an entry without a readable id. Then ``detail`` gives its position."""
    outcome: TaskOutcome
    cause: str = ""
    """A :class:`spoke_jobs.contract.causes.TaskCause`, or one of a newer release; empty for ``done``."""
    detail: str = ""
    """For people: an exception's type, or what is wrong with the form."""
    retry_seconds: float | None = None
    """For ``failed``: seconds until the next attempt, by the task's options."""


class CurrentKey:
    """The shared key, which may be in a file that changes.

    :raises ConfigurationError: if it cannot be used.
    """

    def __init__(self, key: Secret) -> None:
        self._source = key
        self._read = value_of(key)
        self._key = usable_key(self._read)

    def get(self) -> str:
        """Return the key. If a new one cannot be used, the last one stays in use."""
        found = value_of(self._source)
        if found != self._read:
            self._read = found
            try:
                self._key = usable_key(found)
                logger.info("the key for tasks has changed; using the new one")
            except ConfigurationError as error:
                logger.error("the new key for tasks can't be used; the last one stays in use: %s", error)  # noqa: TRY400
        return self._key


def is_task_id(text: str) -> bool:
    """Return whether ``text`` is a valid id of a task."""
    return _ID.fullmatch(text) is not None


def usable_key(key: str) -> str:
    """Return the shared key.

    :raises ConfigurationError: if it cannot be used. The error names the setting, never the key.
    """
    if not key:
        raise ConfigurationError(
            "SPOKE_TASKS_KEY is not set: set it to the key that dispatchers and task deployment share"
        )
    if len(key) < KEY_LENGTH:
        raise ConfigurationError(
            f"SPOKE_TASKS_KEY has {len(key)} characters, and needs at least {KEY_LENGTH}, so that nobody can guess it: "
            "make a new key with `openssl rand -hex 32`, for dispatchers and task deployment"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("SPOKE_TASKS_KEY can't be sent in a header: use ASCII letters, digits and signs only")
    return key
