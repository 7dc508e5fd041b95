"""The causes of tasks, which no SpokeJob has. Tasks have no classes and no budgets."""

from __future__ import annotations

from enum import StrEnum

from spoke_jobs.contract.causes import Cause


class TaskCause(StrEnum):
    """Why a task did not succeed. Causes that jobs can have too are named as in :class:`Cause`."""

    TASK_ERROR = "TaskError"
    """The task's function raised an exception."""
    TASK_EXITED = "TaskExited"
    """The task's function called sys.exit."""
    TIMEOUT = Cause.TIMEOUT.value
    """The task ran longer than its timeout."""
    DISCARDED = Cause.DISCARDED.value
    """The task's function raised ``Discard``, so the task is not run again."""
    SUPERSEDED = Cause.SUPERSEDED.value
    """Another replica took the task over."""
    WORKER_LOST = Cause.WORKER_LOST.value
    """The replicas that ran the task died repeatedly."""
    UNKNOWN_TASK = "UnknownTask"
    """The server's release registers no task of that name."""
    INVALID_PAYLOAD = Cause.INVALID_PAYLOAD.value
    PAYLOAD_TOO_LARGE = "PayloadTooLarge"
    MALFORMED_TASK = "MalformedTask"
    """The entry of the batch isn't a task."""
    ID_REUSED = "IdReused"
    """Another task was sent under this id."""
    FULL = "Full"
    """The server's queue has no room."""
    HELD_UP = "HeldUp"
    """Another task blocked the event loop on which this one ran."""
    DRAINING = "Draining"
    """The server is stopping."""
