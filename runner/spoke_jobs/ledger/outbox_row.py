"""A row of the outbox, from which the table's columns are derived."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class TaskState(StrEnum):
    """The state of a task in the outbox. A task that has run has no row."""

    DUE = "due"
    """No replica has claimed it."""
    LATER = "later"
    """It waits for its next attempt. With the cause ``UnknownTask``, it waits for a release that knows its name."""
    CLAIMED = "claimed"
    """A replica has claimed it. Its lease has not lapsed."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task of the outbox."""

    id: int
    uid: UUID
    runner: str
    name: str
    payload: str
    """Empty in lists, because the payloads of many tasks are large together. An :class:`UnreadPayload` if it is larger
    than a task's may be."""
    state: TaskState
    """Computed when the row is read: the column only tells ``pending`` from ``failed``."""
    attempt: int = 1
    """The number of the current or next attempt; of a failed task, of its last one."""
    losses: int = 0
    """The number of the task's claims that have lapsed, because their replicas died."""
    worker: str = ""
    """The replica that claimed it last; empty before that."""
    created_at: datetime
    due_at: datetime
    """When it may be claimed; for a claimed task, the end of its lease."""
    finished_at: datetime | None
    expires_at: datetime | None
    """When the row of a failed task is deleted."""
    cause: str = ""
    """Why the last attempt failed; empty if none has. ``UnknownTask``: it was set aside, its name is unknown."""
    error_type: str = ""
    traceparent: str = ""
    """The W3C trace context of the dispatch; empty if there was none."""
