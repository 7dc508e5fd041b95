"""The causes: why an attempt or a job ended. Runner, operator and documentation use this one table.

Each cause belongs to a class. Retry budgets count classes (see :mod:`spoke_jobs.contract.retry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, Self


class CauseClass(StrEnum):
    """The classes of causes, which retry budgets count."""

    ERROR = "error"
    """The job's own code failed."""
    OOM = "oom"
    """The job exceeded its memory limit."""
    INFRASTRUCTURE = "infrastructure"
    """A process, pod or node was lost through no fault of the job."""
    IMAGE = "image"
    """The container could not be started because of its image, a Secret, a ConfigMap or its entrypoint."""
    TIMEOUT = "timeout"
    """The job exceeded a timeout."""
    INVALID = "invalid"
    """Another attempt cannot succeed, for example with an unknown type or an invalid payload."""
    UNCHARGED = "uncharged"
    """Not counted: for example, the queue was held, or the job asked to be run later."""


class Cause(StrEnum):
    """Why an attempt or a job ended.

    Each member is one row of the table. Its value is the name: CamelCase, at most 40 characters, stored in the
    SpokeJob and in the ledger. To add a cause, add a row.
    """

    cause_class: CauseClass
    meaning: str
    """One sentence: what happened."""
    advice: str
    """One sentence: what the reader can do."""
    knowable: str
    """The first sign of it; if the runners differ, under ``kubernetes``."""
    before_an_attempt: bool
    """Whether it prevents the creation of the next attempt. The job waits until it is fixed, and ends at its start
    timeout. No budget applies, since there is no attempt to count."""
    waited_for: bool
    """Whether it prevents an attempt from starting. The job waits until it is fixed, and ends at its start timeout,
    whatever its budget. If it can't be fixed, the job ends at once."""

    def __new__(
        cls,
        value: str,
        cause_class: CauseClass,
        meaning: str,
        advice: str,
        knowable: str,
        waits: Literal["", "before an attempt", "for its start"] = "",
    ) -> Self:
        """Create the member of one row."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.cause_class = cause_class
        member.meaning, member.advice, member.knowable = meaning, advice, knowable
        member.before_an_attempt = waits == "before an attempt"
        member.waited_for = waits == "for its start"
        return member

    JOB_ERROR = (
        "JobError",
        CauseClass.ERROR,
        "The job's function raised an exception.",
        "Read the message: `spoke-jobs show ID`; fix the job or its input, then `spoke-jobs retry ID`.",
        "The exit of the job's process.",
    )
    JOB_EXITED = (
        "JobExited",
        CauseClass.ERROR,
        "The job's process exited by itself, with an exit code that spoke-jobs does not use.",
        "Look for sys.exit, os._exit or a crash in native code; the exit code is recorded with the attempt.",
        "The exit of the job's process.",
    )
    INVALID_RESULT = (
        "InvalidResult",
        CauseClass.INVALID,
        "The job returned something that isn't JSON, or is larger than 64 kB.",
        "Return None or a small JSON value; keep large results in a table or in object storage.",
        "The job's return.",
    )
    KILLED = (
        "Killed",
        CauseClass.INFRASTRUCTURE,
        "The job's process was killed by a signal.",
        "Nothing, if it succeeded on another attempt; else find out what sends the signal (memory pressure?).",
        "The signal that ended the job's process.",
    )
    OUT_OF_MEMORY = (
        "OutOfMemory",
        CauseClass.OOM,
        "The kernel ended the container because it used more memory than its limit.",
        "Raise the memory limit of the job's template, or make the job process less at a time.",
        "The container's end, OOMKilled.",
    )
    WORKER_LOST = (
        "WorkerLost",
        CauseClass.INFRASTRUCTURE,
        "The lease lapsed without a heartbeat: the process or its machine is gone.",
        "Nothing, if it succeeded on another attempt; else find out why workers die.",
        "The lease's end, seen by the reaper.",
    )
    INTERRUPTED = (
        "Interrupted",
        CauseClass.INFRASTRUCTURE,
        "The process was told to stop before the job had ended.",
        "Nothing: it is tried again. Rollouts and node drains cause this.",
        "The exit of the job's process after SIGTERM.",
    )
    POD_DELETED = (
        "PodDeleted",
        CauseClass.INFRASTRUCTURE,
        "The pod was deleted while the job ran.",
        "Nothing: it is tried again. `kubectl delete pod`, a drain or a preemption causes this.",
        "The pod's last state, or its absence.",
    )
    EVICTED = (
        "Evicted",
        CauseClass.INFRASTRUCTURE,
        "The pod was evicted from its node.",
        "Check the node's pressure and the pod's resource requests; it is tried again.",
        "The pod's condition DisruptionTarget, or its reason.",
    )
    NODE_LOST = (
        "NodeLost",
        CauseClass.INFRASTRUCTURE,
        "The pod's node went away.",
        "Nothing: it is tried again on another node.",
        "The pod's deletion by the taint manager, 15 s after the request (about 80 s after the node stopped).",
    )
    JOB_DELETED = (
        "JobDeleted",
        CauseClass.INFRASTRUCTURE,
        "The attempt's Kubernetes Job was deleted while it ran.",
        "Find out who deletes Jobs in this namespace; it is tried again.",
        "The Job's deletion.",
    )
    POD_FAILED = (
        "PodFailed",
        CauseClass.INFRASTRUCTURE,
        "The pod failed, and nothing says why.",
        "`kubectl describe` the pod named by the attempt, and its node's events.",
        "The pod's phase, Failed.",
    )
    POD_REJECTED = (
        "PodRejected",
        CauseClass.IMAGE,
        "Kubernetes refuses to create the pod (quota, service account, admission).",
        "Read the Job's FailedCreate events; fix the PodTemplate or the namespace.",
        "The Job's FailedCreate event, or the API server's refusal; the job ends at the start timeout.",
        "for its start",
    )
    IMAGE_UNAVAILABLE = (
        "ImageUnavailable",
        CauseClass.IMAGE,
        "The container's image could not be pulled.",
        "Check the image's name and tag in the PodTemplate, and the pull secrets.",
        "The container's waiting reason; the job ends at the start timeout, with an invalid name at once.",
        "for its start",
    )
    CONTAINER_CONFIG_ERROR = (
        "ContainerConfigError",
        CauseClass.IMAGE,
        "The container's configuration names an object that does not exist.",
        "Create the Secret or ConfigMap that the pod's message names, or fix the PodTemplate.",
        (
            "The container's waiting reason, CreateContainerConfigError, or the pod's FailedMount event; the job ends "
            "at the start timeout."
        ),
        "for its start",
    )
    CONTAINER_CANNOT_RUN = (
        "ContainerCannotRun",
        CauseClass.IMAGE,
        "The image has no `spoke-jobs` command, or the command could not be started.",
        "Install spoke-jobs in the image, and check that it is on PATH.",
        "The container's end with StartError, or its waiting reason; the latter ends the job at the start timeout.",
    )
    TEMPLATE_MISSING = (
        "TemplateMissing",
        CauseClass.IMAGE,
        "The PodTemplate that the job names doesn't exist in its namespace.",
        "Install the application's chart, or correct the template's name.",
        "The first reconcile of the SpokeJob; the job ends at the start timeout.",
        "before an attempt",
    )
    TEMPLATE_NOT_ALLOWED = (
        "TemplateNotAllowed",
        CauseClass.IMAGE,
        'The PodTemplate lacks the label jobs.spoke.dev/template: "true".',
        "Label it, if jobs may run as its service account.",
        "The first reconcile of the SpokeJob; the job ends at the start timeout.",
        "before an attempt",
    )
    TEMPLATE_INVALID = (
        "TemplateInvalid",
        CauseClass.INVALID,
        "The PodTemplate has no container named `job`, or the API server refuses the Job made of it.",
        "Name the job's container `job`, and fix what the operator's log names.",
        "The first reconcile, or the API server's refusal of the Job; the job ends at the start timeout.",
        "before an attempt",
    )
    START_TIMEOUT = (
        "StartTimeout",
        CauseClass.TIMEOUT,
        "The job did not start within its start timeout.",
        "`kubectl describe` the pod named by the attempt: no room, no image, or no quota.",
        "The start timeout, from the Job's creation (or its release by Kueue).",
    )
    TIMEOUT = (
        "Timeout",
        CauseClass.TIMEOUT,
        "The job ran longer than its timeout.",
        "Raise the job's timeout, or make it process less at a time.",
        "The timeout, from the container's start.",
    )
    UNKNOWN_JOB_TYPE = (
        "UnknownJobType",
        CauseClass.INVALID,
        "The process that should run the job doesn't know its type.",
        "Deploy a release that registers the type, or correct the name at dispatch.",
        "The exit of the job's process; under `legacy`, the start timeout.",
    )
    INVALID_PAYLOAD = (
        "InvalidPayload",
        CauseClass.INVALID,
        "The payload doesn't validate against the job's payload model.",
        "Compare the release that dispatched the job with the one that runs it; dispatch it again.",
        "The exit of the job's process.",
    )
    NO_ROW = (
        "NoRow",
        CauseClass.INVALID,
        "The SpokeJob's JobRequest is not in this database, or has another uid.",
        "Delete this SpokeJob. Create SpokeJobs only by dispatching jobs.",
        "The exit of the job's process.",
    )
    INVALID_SPEC = (
        "InvalidSpec",
        CauseClass.INVALID,
        "The SpokeJob's spec can't be read.",
        "Create SpokeJobs by dispatching jobs; the condition Finished, or `spoke-jobs show ID`, names the field.",
        "The first reconcile of the SpokeJob.",
    )
    NAME_TAKEN = (
        "NameTaken",
        CauseClass.INVALID,
        "A SpokeJob of another job has this job's name.",
        "Delete the old SpokeJob (another database's, say), then retry the job.",
        (
            "Sync's comparison, if another job's SpokeJob has the name; the API server's refusal, if another object's "
            "Job has the attempt's name: the job ends at the start timeout."
        ),
    )
    SPOKE_JOB_DELETED = (
        "SpokeJobDeleted",
        CauseClass.INVALID,
        "The SpokeJob was deleted while the job was unfinished.",
        "Dispatch the job again, if it is still wanted.",
        "Sync's watch; if the watch missed it, sync's comparison within 30 s.",
    )
    DATABASE_UNREACHABLE = (
        "DatabaseUnreachable",
        CauseClass.INFRASTRUCTURE,
        "The job's process could not reach its database.",
        "Check SPOKE_DATABASE_URL in the template, NetworkPolicies, and the database itself.",
        "The exit of the job's process, after several tries.",
    )
    BAD_SETUP = (
        "BadSetup",
        CauseClass.IMAGE,
        "The job's process is not configured: a setting is missing, or the database isn't migrated.",
        "Read the pod's log: it names the setting or the migration.",
        "The exit of the job's process.",
    )
    PREEMPTED = (
        "Preempted",
        CauseClass.UNCHARGED,
        "Kueue gave the attempt's place to another workload.",
        "Nothing: it queues again. The Workload's events name what took its place.",
        "The Job's suspension while its pod runs.",
    )
    TEMPLATE_CHANGED = (
        "TemplateChanged",
        CauseClass.UNCHARGED,
        "The attempt could not start, and the PodTemplate that it was made from has changed since.",
        "Nothing: it is tried again with the new template.",
        "The change of the PodTemplate, while the attempt waits for an obstacle to be fixed.",
    )
    QUEUE_HELD = (
        "QueueHeld",
        CauseClass.UNCHARGED,
        "Another job of the queue holds its lock.",
        "Nothing: it runs when the other one has ended.",
        "The exit of the job's process.",
    )
    RETRY_LATER = (
        "RetryLater",
        CauseClass.UNCHARGED,
        "The job asked to be run again later.",
        "Nothing: it is run again at the time that it asked for.",
        "The exit of the job's process.",
    )
    BYSTANDER = (
        "Bystander",
        CauseClass.UNCHARGED,
        "The process was ended because of another job that it ran at the same time.",
        "Nothing: it is run again. Look at the job that blocked the event loop: it ended with Timeout or Cancelled.",
        "The end of the process.",
    )
    DISCARDED = (
        "Discarded",
        CauseClass.INVALID,
        "The job asked not to be run again.",
        "Read its reason: `spoke-jobs show ID`.",
        "The exit of the job's process.",
    )
    CANCELLED = (
        "Cancelled",
        CauseClass.INVALID,
        "Somebody cancelled the job.",
        "Nothing; `spoke-jobs retry ID` starts it again.",
        "The cancellation.",
    )
    INTERRUPTED_BY_MIGRATION = (
        "interrupted_by_migration",
        CauseClass.INVALID,
        "The job was assigned to a process when the table of the earlier system was migrated.",
        "See how far it came, then `spoke-jobs retry ID`.",
        "The migration.",
    )
    SUPERSEDED = (
        "Superseded",
        CauseClass.INFRASTRUCTURE,
        "Another process took the attempt over; this one recorded nothing.",
        "Compare the job's other attempts: two processes ran the job, because one was slow or had lost its connection.",
        "The exit of the job's process, or the ledger's final state.",
    )


class TaskCause(StrEnum):
    """Why a task did not succeed. Causes that jobs can have too are named as in :class:`Cause`."""

    TASK_ERROR = "TaskError"
    """Its function raised."""
    TASK_EXITED = "TaskExited"
    """Its function called sys.exit."""
    TIMEOUT = Cause.TIMEOUT.value
    """It ran longer than its timeout."""
    DISCARDED = Cause.DISCARDED.value
    """Its function raised ``Discard``, so it is not run again."""
    SUPERSEDED = Cause.SUPERSEDED.value
    """Another replica took the task over."""
    WORKER_LOST = Cause.WORKER_LOST.value
    """The replicas that ran it died repeatedly."""
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
    """Another task blocked the event loop that it ran on."""
    DRAINING = "Draining"
    """The server is stopping."""


CAUSES: Mapping[str, Cause] = MappingProxyType({cause.value: cause for cause in Cause})
"""Every cause by its name."""


def cause_class(name: str) -> CauseClass:
    """Return the class of a cause; infrastructure if this release does not know the name.

    An unknown name comes from a newer release on the other side. It must not raise an error here, nor forbid a retry.
    """
    cause = CAUSES.get(name)
    return cause.cause_class if cause else CauseClass.INFRASTRUCTURE
