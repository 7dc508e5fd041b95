"""The causes: why an attempt or a job ended, for runner, operator and documentation. Retry budgets count classes.

A cause's value is its name, stored in the SpokeJob and in the ledger: CamelCase, at most 40 characters."""

from __future__ import annotations

from types import MappingProxyType

from spoke_jobs.contract.cause_classes import CauseClass
from spoke_jobs.contract.cause_row import CauseRow, reported_row, row

__all__ = ("CAUSES", "Cause", "CauseClass", "cause_class")

CHECK_IMAGE = "Check the image's name and tag in the PodTemplate."
"""The advice on `ImageUnavailable` if no pull Secret is missing."""


class Cause(CauseRow):
    """Why an attempt or a job ended. To add a cause, add a row: a `reported_row` if a pod's own process reports it."""

    JOB_ERROR = reported_row(
        "JobError",
        CauseClass.ERROR,
        "The job's function raised an exception.",
        "Read the message: `spoke-jobs show ID`; fix the job or its input, then `spoke-jobs retry ID`.",
        "The exit of the job's process.",
        meanwhile="Read the message: `spoke-jobs show ID`. The job is tried again.",
    )
    JOB_EXITED = reported_row(
        "JobExited",
        CauseClass.ERROR,
        "The job's process exited by itself, with an exit code that spoke-jobs does not use.",
        "Look for sys.exit, os._exit or a crash in native code (see its exit code), then `spoke-jobs retry ID`.",
        "The exit of the job's process.",
    )
    INVALID_RESULT = reported_row(
        "InvalidResult",
        CauseClass.INVALID,
        "The job returned something that isn't JSON, or is larger than 64 kB.",
        "Return None or a small JSON value; keep large results in a table or in object storage.",
        "The job's return.",
    )
    KILLED = row(
        "Killed",
        CauseClass.INFRASTRUCTURE,
        "The job's process was killed by a signal.",
        "Find out what sends the signal or, if it is SIGSEGV, SIGABRT or the like, why native code of the job crashes. "
        "Then `spoke-jobs retry ID`.",
        "The signal that ended the job's process.",
    )
    OUT_OF_MEMORY = row(
        "OutOfMemory",
        CauseClass.OOM,
        "The job used more memory than it may: than its container's limit, or than a worker's bound.",
        "Raise its memory limit (template or worker), or make it process less at a time; then `spoke-jobs retry ID`.",
        "The container's end, OOMKilled. In a worker: what the supervisor measures.",
        meanwhile="No action is needed. The job is tried again, with more memory unless its policy forbids that.",
    )
    WORKER_LOST = reported_row(
        "WorkerLost",
        CauseClass.INFRASTRUCTURE,
        "The lease lapsed without a heartbeat: the process or its machine is gone.",
        "Find out why workers die, then `spoke-jobs retry ID`.",
        "The lease's end, seen by the reaper.",
    )
    INTERRUPTED = reported_row(
        "Interrupted",
        CauseClass.DISRUPTION,
        "The process was told to stop before the job had ended.",
        "Find out what stops its processes so often (rollouts, restarts), then `spoke-jobs retry ID`.",
        "The exit of the job's process after SIGTERM.",
    )
    POD_DELETED = row(
        "PodDeleted",
        CauseClass.INFRASTRUCTURE,
        "The pod was deleted while the job ran.",
        "Find out who deletes pods in this namespace, then `spoke-jobs retry ID`.",
        "The pod's last state, or its absence.",
    )
    EVICTED = row(
        "Evicted",
        CauseClass.INFRASTRUCTURE,
        "The kubelet evicted the pod, because its node ran short of memory, disk or process ids.",
        "Check the node's pressure and the pod's resource requests, then `spoke-jobs retry ID`.",
        "The pod's reason, Evicted.",
        meanwhile="Check the node's pressure and the pod's resource requests. The job is tried again.",
    )
    DRAINED = row(
        "Drained",
        CauseClass.DISRUPTION,
        "The pod had to leave its node: a drain, a taint, the node's shutdown, or a preemption by the scheduler.",
        "Find out what drains its nodes so often, then `spoke-jobs retry ID`.",
        "The pod's condition DisruptionTarget, or its reason.",
    )
    NODE_LOST = row(
        "NodeLost",
        CauseClass.DISRUPTION,
        "The pod's node went away, or has lost the pod's containers in a restart.",
        "Find out why the nodes go away (does the job overload them?), then `spoke-jobs retry ID`.",
        "The pod's deletion by the taint manager, 15 s after the request (about 80 s after the node stopped).",
        meanwhile="No action is needed. The job is tried again, on a node that answers.",
    )
    NODE_REFUSED = row(
        "NodeRefused",
        CauseClass.DISRUPTION,
        "The pod's node did not admit it: the node had filled up, or had just restarted.",
        "The message says what the node lacks. Find out why it refuses its pods, then `spoke-jobs retry ID`.",
        "The pod's reason, for example OutOfcpu or UnexpectedAdmissionError.",
    )
    CONTAINER_RUNTIME_FAILED = row(
        "ContainerRuntimeFailed",
        CauseClass.DISRUPTION,
        "The node could not start a container: its container runtime did not answer, or it ran out of a resource.",
        "Read the message; check the nodes' load, disk, open files and processes, and their container runtime.",
        "The container's end with StartError, or a waiting reason, with which the attempt ends at the start timeout.",
    )
    JOB_DELETED = row(
        "JobDeleted",
        CauseClass.INFRASTRUCTURE,
        "The attempt's Kubernetes Job was deleted while it ran.",
        "Find out who deletes Jobs in this namespace, then `spoke-jobs retry ID`.",
        "The Job's deletion.",
    )
    POD_FAILED = row(
        "PodFailed",
        CauseClass.INFRASTRUCTURE,
        "The pod failed, and nothing says why.",
        "`kubectl describe` the pod named by the attempt, and its node's events.",
        "The pod's phase, Failed.",
    )
    POD_REJECTED = row(
        "PodRejected",
        CauseClass.IMAGE,
        "Kubernetes refuses to create the Job or its pod: an admission policy, LimitRange, quota or service account.",
        "Correct what the message names, or the PodTemplate (labels: `template.metadata`; docs/how-to/policies.md).",
        "The Job's FailedCreate event, or the API server's refusal; the job ends at the start timeout.",
        waits="for its start",
    )
    IMAGE_UNAVAILABLE = row(
        "ImageUnavailable",
        CauseClass.IMAGE,
        "The container's image could not be pulled.",
        f"{CHECK_IMAGE} If the message names a pull Secret, create that.",
        "The container's waiting reason; the job ends at the start timeout, with an invalid name at once.",
        waits="for its start",
    )
    CONTAINER_CONFIG_ERROR = row(
        "ContainerConfigError",
        CauseClass.IMAGE,
        "The container's configuration names an object that does not exist.",
        "Create the Secret or ConfigMap that the pod's message names, or fix the PodTemplate.",
        "The waiting reason CreateContainerConfigError, or the event FailedMount; the job ends at the start timeout.",
        waits="for its start",
    )
    VOLUME_CLAIM_MISSING = row(
        "VolumeClaimMissing",
        CauseClass.IMAGE,
        "The pod names a PersistentVolumeClaim that does not exist in its namespace.",
        "Create the PersistentVolumeClaim that the message names, or correct the volume in the PodTemplate.",
        "The scheduler's message in the pod's condition PodScheduled; the job ends at the start timeout.",
        waits="for its start",
    )
    VOLUME_CLAIM_UNBOUND = row(
        "VolumeClaimUnbound",
        CauseClass.IMAGE,
        "A PersistentVolumeClaim of the pod has no volume.",
        "`kubectl describe pvc` says why: its storage class, its provisioner, or no free volume of its size and mode.",
        "The scheduler's message in the pod's condition PodScheduled; the job ends at the start timeout.",
        waits="for its start",
    )
    VOLUME_NOT_MOUNTED = row(
        "VolumeNotMounted",
        CauseClass.IMAGE,
        "A volume of the pod can't be attached to its node or mounted.",
        "Read the message; check the volume's driver, and whether another node still uses the volume.",
        "The pod's event FailedMount or FailedAttachVolume; the job ends at the start timeout.",
        waits="for its start",
    )
    INIT_FAILED = row(
        "InitFailed",
        CauseClass.ERROR,
        "An init container or sidecar of the pod failed, so the job was not started.",
        "Read its output: `spoke-jobs show ID`; fix the container in the PodTemplate, or what it waits for.",
        "The pod's phase, Failed; for a sidecar that ends again and again, the start timeout.",
        meanwhile="Read its output: `spoke-jobs show ID`. The job is tried again.",
    )
    CONTAINER_CANNOT_RUN = row(
        "ContainerCannotRun",
        CauseClass.IMAGE,
        "The command of a container could not be started; the job's container needs `spoke-jobs` in its image.",
        "Install spoke-jobs in the job's image, on PATH; if the message names another container, correct that one.",
        "The container's end with StartError, or a waiting reason, with which the job ends at the start timeout.",
        meanwhile="Check the image and the command that the message names. The job is tried again.",
    )
    TEMPLATE_MISSING = row(
        "TemplateMissing",
        CauseClass.IMAGE,
        "The PodTemplate that the job names doesn't exist in its namespace.",
        "Install the application's chart, or correct the template's name.",
        "The first reconcile of the SpokeJob; the job ends at the start timeout.",
        waits="before an attempt",
    )
    TEMPLATE_NOT_ALLOWED = row(
        "TemplateNotAllowed",
        CauseClass.IMAGE,
        'The PodTemplate lacks the label jobs.spoke.dev/template: "true".',
        "Label it, if jobs may run as its service account.",
        "The first reconcile of the SpokeJob; the job ends at the start timeout.",
        waits="before an attempt",
    )
    TEMPLATE_INVALID = row(
        "TemplateInvalid",
        CauseClass.INVALID,
        "The PodTemplate has no container named `job`, or the API server refuses the Job made of it.",
        "Read the message: name the job's container `job`, or correct what the API server refuses.",
        "The first reconcile, or the API server's refusal of the Job; the job ends at the start timeout.",
        waits="before an attempt",
    )
    TYPE_NOT_ALLOWED = row(
        "TypeNotAllowed",
        CauseClass.INVALID,
        "Jobs of this type may not use the PodTemplate (annotation jobs.spoke.dev/allowed-types).",
        "Name another PodTemplate in the job's declaration, or add the type to the annotation.",
        "The first reconcile of the SpokeJob, or sync, which does not launch the job; it ends at the start timeout.",
        waits="before an attempt",
    )
    RESOURCES_NOT_ALLOWED = row(
        "ResourcesNotAllowed",
        CauseClass.INVALID,
        "The job asks for resources that its PodTemplate does not allow.",
        "The message names the amount. Ask for another one, use another PodTemplate, or change its annotations.",
        "The first reconcile of the SpokeJob; the job ends at the start timeout.",
        waits="before an attempt",
    )
    START_TIMEOUT = row(
        "StartTimeout",
        CauseClass.TIMEOUT,
        "The job did not start within its start timeout.",
        "Read the message: it says what the job waited for. Then `spoke-jobs retry ID`.",
        "The start timeout, from the Job's creation (or its release by Kueue).",
    )
    TIMEOUT = reported_row(
        "Timeout",
        CauseClass.TIMEOUT,
        "The job ran longer than its timeout.",
        "Find out what took so long, then `spoke-jobs retry ID`; or dispatch it again with a longer timeout.",
        "The timeout, from the function's start.",
    )
    TOO_LONG_FOR_WORKER = row(
        "TooLongForWorker",
        CauseClass.UNCHARGED,
        "The attempt ran in a worker for longer than jobs may there.",
        "`spoke-jobs retry ID` starts it again.",
        "The option `worker_seconds`, or the worker's `--worker-seconds`, from the function's start.",
        meanwhile="No action is needed. The job moves to a pod. If that happens often, give it the lane `pod`.",
    )
    UNKNOWN_JOB_TYPE = reported_row(
        "UnknownJobType",
        CauseClass.INVALID,
        "The process that should run the job doesn't know its type.",
        "Deploy a release that declares the type, then `spoke-jobs retry ID`; or dispatch it again by its right name.",
        "The exit of the job's process; under `legacy`, the start timeout.",
    )
    INVALID_PAYLOAD = reported_row(
        "InvalidPayload",
        CauseClass.INVALID,
        "The payload doesn't validate against the job's payload model.",
        "Compare the release that dispatched the job with the one that runs it; dispatch the job again.",
        "The exit of the job's process.",
    )
    NO_ROW = reported_row(
        "NoRow",
        CauseClass.INVALID,
        "The SpokeJob's JobRequest is not in this database, or has another uid.",
        "Delete this SpokeJob. Create SpokeJobs only by dispatching jobs.",
        "The exit of the job's process.",
    )
    INVALID_SPEC = row(
        "InvalidSpec",
        CauseClass.INVALID,
        "The SpokeJob's spec can't be read.",
        "Create SpokeJobs by dispatching jobs. The message names the field.",
        "The first reconcile of the SpokeJob.",
    )
    NAME_TAKEN = row(
        "NameTaken",
        CauseClass.INVALID,
        "A SpokeJob of another job has this job's name.",
        "Delete the old SpokeJob, for example of another database, then retry the job.",
        "Sync's comparison; for another object's Job, the API server's refusal, and the job ends at the start timeout.",
    )
    SPOKE_JOB_DELETED = row(
        "SpokeJobDeleted",
        CauseClass.INVALID,
        "The SpokeJob was deleted while the job was unfinished.",
        "Dispatch the job again, if it is still wanted.",
        "Sync's watch; if the watch missed it, sync's comparison within 30 s.",
    )
    DATABASE_UNREACHABLE = reported_row(
        "DatabaseUnreachable",
        CauseClass.DEPENDENCY,
        "The job's process could not reach its database (that of spoke-jobs or one of the job's own), or was refused "
        "its credentials, or the server lacks memory, disk space or connections.",
        "Check the database that the message names: that it runs, and accepts connections and the password. In a "
        "cluster, check NetworkPolicies and the Secret with its URL, too. Then `spoke-jobs retry ID`.",
        "The exit of the job's process, after it has waited for the database for up to its start timeout.",
        meanwhile="Check the database that the message names: that it runs, and accepts connections and the password. "
        "In a cluster, check NetworkPolicies and the Secret with its URL, too. The job is tried again; these failures "
        "use up none of its retries.",
    )
    BAD_SETUP = reported_row(
        "BadSetup",
        CauseClass.IMAGE,
        "The job's process is not configured: a setting is missing or invalid, or the database isn't migrated.",
        "Read its output: `spoke-jobs show ID`. Correct the setting, or migrate; then `spoke-jobs retry ID`.",
        "The exit of the job's process.",
        meanwhile="Read its output, which names the setting or the migration: `spoke-jobs show ID`. It is tried again.",
    )
    PREEMPTED = row(
        "Preempted",
        CauseClass.UNCHARGED,
        "Kueue stopped the attempt to admit another workload.",
        "The Workload's events name the other workload.",
        "The Job's suspension while its pod runs.",
        meanwhile="No action is needed. The job queues again. The Workload's events name the other workload.",
    )
    TEMPLATE_CHANGED = row(
        "TemplateChanged",
        CauseClass.UNCHARGED,
        "The attempt could not start, and the PodTemplate that it was made from has changed since.",
        "Check the new template, then `spoke-jobs retry ID`.",
        "The change of the PodTemplate, while the attempt waits for an obstacle to be fixed.",
        meanwhile="No action is needed. The job is tried again with the new template.",
    )
    STANDBY_LOST = row(
        "StandbyLost",
        CauseClass.UNCHARGED,
        "The attempt was assigned to a standby pod that ended, or did not answer, before it took the job.",
        "`spoke-jobs retry ID`.",
        "The end of the pod, or the operator's request that fails.",
        meanwhile="No action is needed. The job is tried again in a pod of its own.",
    )
    QUEUE_HELD = row(
        "QueueHeld",
        CauseClass.UNCHARGED,
        "Another job of the queue holds its lock.",
        "`spoke-jobs retry ID` starts it again, once the other one has ended.",
        "The exit of the job's process.",
        meanwhile="No action is needed. It runs when the other one has ended.",
    )
    START_PAUSED = reported_row(
        "StartPaused",
        CauseClass.UNCHARGED,
        "The job was paused or suspended in the ledger after its pod was created, and before its function was called.",
        "`spoke-jobs resume SCOPE` or `spoke-jobs resume ID`, then `spoke-jobs retry ID`.",
        "The exit of the job's process.",
    )
    RETRY_LATER = reported_row(
        "RetryLater",
        CauseClass.UNCHARGED,
        "The job asked to be run again later.",
        "`spoke-jobs retry ID` starts it again.",
        "The exit of the job's process.",
        meanwhile="No action is needed. It is run again at the time that it asked for.",
    )
    BYSTANDER = row(
        "Bystander",
        CauseClass.UNCHARGED,
        "The process was ended because of another job that it ran at the same time.",
        "Look at the job that blocked the event loop or cancelled parts of this one, then `spoke-jobs retry ID`.",
        "The end of the process.",
        meanwhile="No action is needed. It is run again. Look at the job that disturbed it.",
    )
    DISCARDED = reported_row(
        "Discarded",
        CauseClass.INVALID,
        "The job asked not to be run again.",
        "Read its reason: `spoke-jobs show ID`.",
        "The exit of the job's process.",
    )
    UNDIAGNOSABLE = row(
        "Undiagnosable",
        CauseClass.INVALID,
        "The operator, sync or a worker could not decide about the job: each of several tries raised an error.",
        "Correct code that writes to the ledger's rows, or report the error in the log. Then `spoke-jobs retry ID`.",
        "The fifth decision about the job in a row that raises an error.",
    )
    DEPENDENCY_FAILED = row(
        "DependencyFailed",
        CauseClass.INVALID,
        "A job or a batch that this one depends on has failed, so this one was not started.",
        "`spoke-jobs show ID` names that job or batch. Retry that job, or the failed jobs of that batch: `spoke-jobs "
        "retry --failed --batch BATCH`. What failed because of them then waits for them again.",
        "The end of the job or the batch that it depends on.",
    )
    CANCELLED = reported_row(
        "Cancelled",
        CauseClass.INVALID,
        "Somebody cancelled the job.",
        "`spoke-jobs retry ID` starts it again.",
        "The cancellation.",
    )
    INTERRUPTED_BY_MIGRATION = row(
        "interrupted_by_migration",
        CauseClass.INVALID,
        "The job was assigned to a process when the table of the earlier system was migrated.",
        "Find out how far it got, then `spoke-jobs retry ID`.",
        "The migration.",
    )
    SUPERSEDED = row(
        "Superseded",
        CauseClass.INFRASTRUCTURE,
        "Another process took the attempt over; this one recorded nothing.",
        "Compare the job's other attempts: two processes ran the job, because one was slow or had lost its connection.",
        "The exit of the job's process, or the ledger's final state.",
    )


CAUSES = MappingProxyType({cause.value: cause for cause in Cause})
"""Every cause by its name."""


def cause_class(name: str) -> CauseClass:
    """Return the class of a cause; infrastructure for a name of a newer release, which must not forbid a retry."""
    return CAUSES[name].cause_class if name in CAUSES else CauseClass.INFRASTRUCTURE
