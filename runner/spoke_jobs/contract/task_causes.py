"""The causes of tasks, which have no SpokeJob: why a run of a task, or the task, did not succeed.

A cause that jobs can have too is named as in :class:`Cause`. The class says what follows: `error` and `timeout` count
against the task's `attempts`; after `uncharged`, the task is sent again; after any other class, it has failed for good.
"""

from __future__ import annotations

from types import MappingProxyType

from spoke_jobs.contract.cause_classes import CauseClass
from spoke_jobs.contract.cause_row import CauseRow, row
from spoke_jobs.contract.causes import Cause

_AGAIN = "No action is needed. The task is tried again."
_RETRY = "Then `spoke-jobs outbox retry ID`."
COUNTED = frozenset({CauseClass.ERROR, CauseClass.TIMEOUT})
"""The classes that count against a task's `attempts`."""


def _row(
    name: str, cause_class: CauseClass, meaning: str, advice: str, knowable: str, meanwhile: str = _AGAIN
) -> tuple[object, ...]:
    return row(name, cause_class, meaning, advice, knowable, meanwhile=meanwhile)


class TaskCause(CauseRow):
    """Why a task did not succeed. To add a cause, add a row. In the texts, `ID` stands for the task's id."""

    TASK_ERROR = _row(
        "TaskError",
        CauseClass.ERROR,
        "The task's function raised an exception.",
        f"Read the traceback in the log of the task deployment, and fix the task or its input. {_RETRY}",
        "The end of the task's function.",
    )
    TASK_EXITED = _row(
        "TaskExited",
        CauseClass.ERROR,
        "The task's function called sys.exit.",
        f"Return from the function instead, or raise `Discard`. {_RETRY}",
        "The end of the task's function.",
    )
    TIMEOUT = _row(
        Cause.TIMEOUT.value,
        CauseClass.TIMEOUT,
        "The task ran longer than its timeout.",
        f"Find out what took so long, or declare a longer timeout. Longer work is a job. {_RETRY}",
        "The timeout, from the function's start.",
    )
    DISCARDED = _row(
        Cause.DISCARDED.value,
        CauseClass.INVALID,
        "The task's function raised `Discard`, so the task is not run again.",
        "The log of the task deployment has the reason.",
        "The end of the task's function.",
    )
    SUPERSEDED = _row(
        Cause.SUPERSEDED.value,
        CauseClass.UNCHARGED,
        "Another replica took the task over; this one recorded nothing.",
        "If it happens often, find out why replicas are slow or lose their connection to the database.",
        "The end of the task's function.",
    )
    WORKER_LOST = _row(
        Cause.WORKER_LOST.value,
        CauseClass.INFRASTRUCTURE,
        "The replicas that ran the task died repeatedly.",
        f"Find out whether the task kills its replica, by its use of memory for example. {_RETRY}",
        "The last lapsed claim, or the last broken connection.",
    )
    UNKNOWN_TASK = _row(
        "UnknownTask",
        CauseClass.INVALID,
        "The server's release declares no task of that name.",
        f"Deploy a release that declares the task, or dispatch it again by its right name. {_RETRY}",
        "The task's arrival; for a task of the outbox, an hour after it was due.",
    )
    INVALID_PAYLOAD = _row(
        Cause.INVALID_PAYLOAD.value,
        CauseClass.INVALID,
        "The payload doesn't validate against the task's payload model.",
        "Compare the release that dispatched the task with the one that runs it; dispatch the task again.",
        "The task's start.",
    )
    PAYLOAD_TOO_LARGE = _row(
        "PayloadTooLarge",
        CauseClass.INVALID,
        "The payload is larger than a task's may be (100 kB).",
        "Keep large input in a table or in object storage, or dispatch a job.",
        "The task's arrival.",
    )
    MALFORMED_TASK = _row(
        "MalformedTask",
        CauseClass.INVALID,
        "The entry of the batch isn't a task.",
        "The answer says what is wrong with its form. Correct the program that sends it.",
        "The task's arrival.",
    )
    ID_REUSED = _row(
        "IdReused",
        CauseClass.INVALID,
        "Another task was sent under this id.",
        "Send each task under an id of its own.",
        "The task's arrival.",
    )
    REFUSED_BY_PROXY = _row(
        "RefusedByProxy",
        CauseClass.INVALID,
        "Something in front of the task server refused the task repeatedly.",
        "The dispatcher's log has the answer's status and first line. Correct the rule or the limit, or the task; "
        "dispatch it again.",
        "The refusals of a request with this task alone.",
    )
    FULL = _row(
        "Full",
        CauseClass.UNCHARGED,
        "The server's queue has no room.",
        "Add replicas of the task deployment, or raise SPOKE_TASKS_QUEUE.",
        "The task's arrival.",
    )
    HELD_UP = _row(
        "HeldUp",
        CauseClass.UNCHARGED,
        "Another task blocked the event loop on which this one ran.",
        "The log of the task deployment names the task that blocked the loop. Correct that one.",
        "The timeout of the task that blocked the loop.",
    )
    DRAINING = _row(
        "Draining",
        CauseClass.UNCHARGED,
        "The server is stopping.",
        "If it happens often, find out what stops the replicas.",
        "The task's arrival, or the end of the grace period.",
    )


TASK_CAUSES = MappingProxyType({cause.value: cause for cause in TaskCause})
"""Every cause of tasks by its name."""
