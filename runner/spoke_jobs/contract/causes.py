"""Why an attempt or a job ended: one table, read by runner, operator and the documentation.

A cause belongs to a class; retry budgets count classes (see :mod:`spoke_jobs.contract.retry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class CauseClass(StrEnum):
    """What retry budgets count."""

    ERROR = "error"
    """The job's own code failed."""
    OOM = "oom"
    """The job used more memory than it was given."""
    INFRASTRUCTURE = "infrastructure"
    """A process, pod or node went away through no fault of the job."""
    IMAGE = "image"
    """The container could not be started as described: image, Secret, ConfigMap, entrypoint."""
    TIMEOUT = "timeout"
    """The job took longer than it may."""
    INVALID = "invalid"
    """No repetition can mend it: an unknown type, a payload that doesn't validate, a SpokeJob without a row."""
    UNCHARGED = "uncharged"
    """Not counted: its queue was held, or the job asked for another time."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One row of the table."""

    name: str
    """CamelCase, at most 40 characters; stands on the SpokeJob and in the ledger."""
    cause_class: CauseClass
    meaning: str
    """One sentence: what happened."""
    advice: str
    """One sentence: what the reader can do."""
    knowable: str
    """What first tells of it, under ``kubernetes`` where the two differ."""
    before_an_attempt: bool = False
    """Whether it keeps the next attempt from being made. The job then waits for it to be mended, as long as its start
    timeout, and ends; budgets count attempts, and there is none."""
    waited_for: bool = False
    """Whether it keeps an attempt from starting, which is waited for as long as the start timeout, unless it can't be
    mended at all. The job then ends, whatever its budget."""


_TABLE = (
    Cause("JobError", CauseClass.ERROR, "The job's function raised an exception.",
          "Read the message: `spoke-jobs show ID`; mend the job or its input, then `spoke-jobs retry ID`.",
          "The exit of the job's process."),
    Cause("JobExited", CauseClass.ERROR, "The job's process ended by itself with an exit code that is not ours.",
          "Look for sys.exit, os._exit or a crash in native code; the exit code is recorded with the attempt.",
          "The exit of the job's process."),
    Cause("InvalidResult", CauseClass.INVALID, "The job returned something that isn't JSON, or is larger than 64 kB.",
          "Return None or a small JSON value; keep large results in a table or in object storage.",
          "The job's return."),
    Cause("Killed", CauseClass.INFRASTRUCTURE, "The job's process was killed by a signal.",
          "Nothing, if it succeeded on another attempt; else look for who sends the signal (memory pressure?).",
          "The exit of the job's process, by a signal."),
    Cause("OutOfMemory", CauseClass.OOM, "The kernel ended the container because it used more memory than its limit.",
          "Raise the memory limit of the job's template, or make the job work in smaller portions.",
          "The container's end, OOMKilled."),
    Cause("WorkerLost", CauseClass.INFRASTRUCTURE,
          "The lease lapsed without a heartbeat: the process or its machine is gone.",
          "Nothing, if it succeeded on another attempt; else see why workers die.",
          "The lease's end, seen by the reaper."),
    Cause("Interrupted", CauseClass.INFRASTRUCTURE, "The process was told to stop before the job was done.",
          "Nothing: it is tried again. Deploys and node drains do this.",
          "The exit of the job's process after SIGTERM."),
    Cause("PodDeleted", CauseClass.INFRASTRUCTURE, "The pod was deleted while the job ran.",
          "Nothing: it is tried again. `kubectl delete pod`, a drain or preemption does this.",
          "The pod's last state, or its absence."),
    Cause("Evicted", CauseClass.INFRASTRUCTURE, "The pod was evicted from its node.",
          "See the node's pressure and the pod's resource requests; it is tried again.",
          "The pod's condition DisruptionTarget, or its reason."),
    Cause("NodeLost", CauseClass.INFRASTRUCTURE, "The pod's node went away.",
          "Nothing: it is tried again on another node.",
          "The pod's deletion by the taint manager, 15 s after it was asked for (some 80 s after the node's end)."),
    Cause("JobDeleted", CauseClass.INFRASTRUCTURE, "The attempt's Kubernetes Job was deleted while it ran.",
          "Find out who deletes Jobs in this namespace; it is tried again.",
          "The Job's deletion."),
    Cause("PodFailed", CauseClass.INFRASTRUCTURE, "The pod failed without saying why.",
          "`kubectl describe` the pod named by the attempt, and its node's events.",
          "The pod's phase, Failed."),
    Cause("PodRejected", CauseClass.IMAGE, "Kubernetes refuses to create the pod (quota, service account, admission).",
          "Read the Job's FailedCreate events; mend the PodTemplate or the namespace.",
          "The Job's FailedCreate event: it ends the job with the start timeout. Or the API server's refusal of "
          "the Job: it ends the job with the start timeout.", waited_for=True),
    Cause("ImageUnavailable", CauseClass.IMAGE, "The container's image could not be had.",
          "Check the image's name and tag in the PodTemplate, and the pull secrets.",
          "The container's waiting reason (ErrImagePull, ...); it ends the job with the start timeout, a bad name "
          "at once.", waited_for=True),
    Cause("ContainerConfigError", CauseClass.IMAGE, "The container's configuration names something that isn't there.",
          "Create the Secret or ConfigMap that the pod's message names, or mend the PodTemplate.",
          "The container's waiting reason, CreateContainerConfigError, or the pod's FailedMount event; it ends the "
          "job with the start timeout.", waited_for=True),
    Cause("ContainerCannotRun", CauseClass.IMAGE, "The image has no `spoke-jobs` command, or it could not be started.",
          "Install spoke-jobs in the image and see that it is on PATH.",
          "The container's end with StartError, or its waiting reason; that ends the job with the start timeout."),
    Cause("TemplateMissing", CauseClass.IMAGE, "The PodTemplate that the job names doesn't exist in its namespace.",
          "Install the application's chart, or correct the template's name.",
          "The first look at the SpokeJob; it ends the job with the start timeout.", before_an_attempt=True),
    Cause("TemplateNotAllowed", CauseClass.IMAGE, 'The PodTemplate lacks the label jobs.spoke.dev/template: "true".',
          "Label it, if jobs may run as its service account.",
          "The first look at the SpokeJob; it ends the job with the start timeout.", before_an_attempt=True),
    Cause("TemplateInvalid", CauseClass.INVALID,
          "The PodTemplate has no container named `job`, or the API server refuses the Job made of it.",
          "Name the job's container `job` and mend what the operator's log names.",
          "The first look at the SpokeJob, or the API server's refusal of the Job; it ends the job with the start "
          "timeout.",
          before_an_attempt=True),
    Cause("StartTimeout", CauseClass.TIMEOUT, "The job did not start within its start timeout.",
          "`kubectl describe` the pod named by the attempt: no room, no image, or no quota.",
          "The start timeout, from the Job's creation (or its release by Kueue)."),
    Cause("Timeout", CauseClass.TIMEOUT, "The job ran longer than its timeout.",
          "Raise the job's timeout, or make it do less at a time.",
          "The timeout, from the container's start."),
    Cause("UnknownJobType", CauseClass.INVALID, "The process that should run the job doesn't know its type.",
          "Deploy a release that registers the type, or correct the name at dispatch.",
          "The exit of the job's process; under `legacy`, the start timeout."),
    Cause("InvalidPayload", CauseClass.INVALID, "The payload doesn't validate against the job's payload model.",
          "Compare the release that dispatched the job with the one that runs it; dispatch it again.",
          "The exit of the job's process."),
    Cause("NoRow", CauseClass.INVALID, "The SpokeJob names a JobRequest that isn't in the database, or another one's.",
          "Create SpokeJobs by dispatching; delete this one.",
          "The exit of the job's process."),
    Cause("InvalidSpec", CauseClass.INVALID, "The SpokeJob's spec can't be read.",
          "Create SpokeJobs by dispatching; its condition Finished, or `spoke-jobs show ID`, names the field.",
          "The first look at the SpokeJob."),
    Cause("NameTaken", CauseClass.INVALID, "A SpokeJob of another job has this job's name.",
          "Delete the old SpokeJob (another database's, say), then retry the job.",
          "Sync's look at the SpokeJob that has the name; where another's Job has the attempt's name, the API server's "
          "refusal: it ends the job with the start timeout."),
    Cause("SpokeJobDeleted", CauseClass.INVALID, "The SpokeJob was deleted while the job was unfinished.",
          "Dispatch the job again, if it is still wanted.",
          "Sync's watch, or its comparison, within 30 s, where the watch missed it."),
    Cause("DatabaseUnreachable", CauseClass.INFRASTRUCTURE, "The job's process could not reach its database.",
          "Check SPOKE_DATABASE_URL in the template, NetworkPolicies, and the database itself.",
          "The exit of the job's process, after it has tried for a while."),
    Cause("BadSetup", CauseClass.IMAGE,
          "The job's process is not configured: a setting is missing, or the database isn't migrated.",
          "Read the pod's log: it names the setting or the migration.",
          "The exit of the job's process."),
    Cause("Preempted", CauseClass.UNCHARGED, "Kueue took the attempt's place for another workload.",
          "Nothing: it queues again. See the Workload's events for who took its place.",
          "The Job's suspension while its pod runs."),
    Cause("TemplateChanged", CauseClass.UNCHARGED,
          "The attempt could not start, and the PodTemplate that it was made from was changed meanwhile.",
          "Nothing: it is tried again by the template as it is now.",
          "The PodTemplate's change, while the attempt waits for something to be mended."),
    Cause("QueueHeld", CauseClass.UNCHARGED, "Another job of the queue holds its lock.",
          "Nothing: it runs when the other has ended.",
          "The exit of the job's process."),
    Cause("RetryLater", CauseClass.UNCHARGED, "The job asked to be run again later.",
          "Nothing: it is run again at the time that it asked for.",
          "The exit of the job's process."),
    Cause("Bystander", CauseClass.UNCHARGED,
          "The process that ran the job among others had to be ended because of one of those.",
          "Nothing: it is run again. See the job that held up the event loop: it ended with Timeout or Cancelled.",
          "The end of the process."),
    Cause("Discarded", CauseClass.INVALID, "The job said that it is not to be run any more.",
          "Read its reason: `spoke-jobs show ID`.",
          "The exit of the job's process."),
    Cause("Cancelled", CauseClass.INVALID, "Somebody cancelled the job.",
          "Nothing; `spoke-jobs retry ID` starts it again.",
          "The cancellation."),
    Cause("interrupted_by_migration", CauseClass.INVALID,
          "The job was assigned to a process when the table of the earlier system was migrated.",
          "See how far it came, then `spoke-jobs retry ID`.",
          "The migration."),
    Cause("Superseded", CauseClass.INFRASTRUCTURE, "Another process took the attempt over; this one recorded nothing.",
          "Look at the attempts beside it: two processes ran for one job, of which one was cut off or slow.",
          "The exit of the job's process, or the ledger's final state."),
)  # fmt: skip

CAUSES: Mapping[str, Cause] = MappingProxyType({cause.name: cause for cause in _TABLE})
"""Every cause by its name."""


def cause_class(name: str) -> CauseClass:
    """The class that a cause counts towards; a name that this release doesn't know counts as infrastructure.

    An unknown name comes from a newer release on the other side of the contract: it must neither crash this side nor
    be taken for something that is never tried again.
    """
    cause = CAUSES.get(name)
    return cause.cause_class if cause else CauseClass.INFRASTRUCTURE
