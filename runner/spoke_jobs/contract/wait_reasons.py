"""Why a job waits: the table of reasons, and the value that operator, ledger and command line exchange.

If a SpokeJob waits until somebody removes an obstacle, its code is a cause (:mod:`.causes`). If nobody removes the
obstacle, the SpokeJob ends with that cause.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum, auto
from types import MappingProxyType
from typing import Self

from spoke_jobs.contract.quota_message import QuotaUse, quota_words
from spoke_jobs.contract.why_codes import Code

LONG = timedelta(minutes=10)
"""After this time, what usually ends by itself may not do so."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why one job waits. :mod:`.wait_text` turns it into text."""

    code: str
    """A :class:`WaitReason` or :class:`spoke_jobs.contract.causes.Cause`. A newer release may send other codes."""
    holder: str = ""
    """The SpokeJob that holds the queue's lock."""
    object: str = ""
    """The queue, organization, PodTemplate, Job, container, volume claim or ResourceQuota that the wait concerns; with
    `PodsNotStarting` the cause or reason that keeps the pods from starting, with `ClusterFull` the resources that are
    short."""
    running: int | None = None
    """How many jobs count towards the limit."""
    limit: int | None = None
    source: str = ""
    """The SpokeLimit, the Namespace or the operator's setting with the limit or the pause."""
    by: str = ""
    """Who set the pause."""
    note: str = ""
    """The reason that was given for the pause."""
    paused_since: datetime | None = None
    priority: int | None = None
    """The SpokeJob's priority in admission, if a SpokeLimit caps it."""
    position: int | None = None
    """How many SpokeJobs are ahead in the order of turns. Only readers of the published order set this."""
    since: datetime | None = None
    ends_at: datetime | None = None
    """When the attempt ends if it still waits; None if nothing ends it."""
    retry_at: datetime | None = None
    """When the next attempt or the next creation of its Job is due, if that is known."""
    detail: str = ""
    """Kubernetes' message about the obstacle."""
    quota: tuple[QuotaUse, ...] = ()
    """The resources of the ResourceQuota that are short."""


class Giver(Enum):
    """Who gives a reason."""

    OPERATOR = auto()
    """The operator, in the status of a SpokeJob; some of these also the ledger, for jobs that workers run."""
    WHY = auto()
    """Only `spoke-jobs why`, from the ledger and the cluster."""


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """One row of the table of reasons."""

    name: str
    """CamelCase. Conditions show it as their reason. While the SpokeJob waits, `status.cause` shows it too, unless it
    is `BackingOff` or `PodPending`."""
    meaning: str
    """One sentence. In it, `{setting}` stands for the operator's setting."""
    advice: str
    """What the reader can do about a SpokeJob that waits. In all texts, `ID` stands for the job's id, and `CONTAINER`
    for the container that it waits for."""
    code: Code = Code.CLUSTER
    """The code with which `why` prints it, unless the operator gives it."""
    setting: str = ""
    """The operator's setting with the limit; empty for none."""
    remedy: str = ""
    """What the reader can do about a job that has ended because it waited too long; empty for a reason that never ends
    a job."""
    group_advice: str = ""
    """What the reader can do about a group of jobs that wait outside of the cluster. `ID` is the job that they wait
    for, or the first of them; `TYPE` is their type; `SCOPE` that of a pause. The advice on a limit has numbers
    (:func:`.advice.limit_advice`)."""
    lasting: str = ""
    """What the reader can do about a SpokeJob that has waited for :data:`LONG`; empty for the same as before. `QUOTA`
    stands for the ResourceQuota's name."""
    for_a_place: bool = False
    """Whether admission holds back a SpokeJob that could start."""
    held_by_others: bool = False
    """Whether it concerns many jobs at once and ends without an action on the job."""
    needs_attention: bool = False
    """Whether, like a cause, it usually does not end by itself. Its Events are warnings, and alerts name it."""
    untimed: bool = False
    """Whether the start timeout does not end an attempt while its pod waits for it."""
    given_by: Giver = Giver.OPERATOR
    needs: tuple[str, ...] = ()
    """The fields of :class:`Wait` that the sentence needs. An operator of an older release may leave them out."""
    says: Callable[[Wait], str] | None = None
    """Makes the sentence from the fields of the wait; None if the reason alone is enough, or only Kubernetes knows."""


def pause_sentence(source: str, by: str, note: str, since: datetime | None, until: datetime | None) -> str:
    """Return the sentence about a pause.

    :param source: the object with the pause.
    :param by: who set it; empty if that is not known.
    """
    who = f"{by} ({source})" if by else source
    start = f" since {_clock(since)}" if since else ""
    end = f" until {_clock(until)}" if until else ""
    why = f": {note}" if note else ""
    return f"paused by {who}{start}{end}{why}"


def _paused(wait: Wait) -> str:
    return pause_sentence(wait.source, wait.by, wait.note, wait.paused_since, wait.retry_at)


def _full(wait: Wait) -> str:
    return f"{wait.running} of at most {wait.limit}"


def _by_source(wait: Wait) -> str:
    return f" ({wait.source})" if wait.source else ""


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _since(wait: Wait) -> str:
    return f" since {wait.since:%H:%M:%S} UTC" if wait.since else ""


class WaitReason(StrEnum):
    """The reasons to wait without an error: one vocabulary for operator, ledger and command line. To add a reason, add
    a row."""

    row: ReasonRow
    code: Code
    meaning: str
    advice: str
    setting: str
    remedy: str
    group_advice: str

    def __new__(cls, row: ReasonRow) -> Self:
        """Create the member of one row."""
        member = str.__new__(cls, row.name)
        member._value_ = row.name
        member.row, member.code, member.group_advice = row, row.code, row.group_advice
        member.setting, member.remedy = row.setting, row.remedy
        member.meaning, member.advice = row.meaning.format(setting=f"`{row.setting}`"), row.advice
        return member

    def can_say(self, wait: Wait) -> bool:
        """Whether the fields of the wait are enough for the reason's sentence."""
        return self.row.says is not None and all(getattr(wait, name) not in ("", None, ()) for name in self.row.needs)

    SUSPENDED = ReasonRow(
        "Suspended",
        "Somebody has suspended the job, in the ledger or by `spec.suspend` of its SpokeJob.",
        "To let it start: `spoke-jobs resume ID`, or set `spec.suspend` to false.",
        code=Code.SUSPENDED,
        group_advice="To let one start: `spoke-jobs resume ID`.",
        says=lambda wait: "spec.suspend is true",
    )
    BACKING_OFF = ReasonRow(
        "BackingOff",
        "An attempt has failed; the next one is due at `status.nextAttemptAt`.",
        "No action is needed. `status.cause` says how the attempt ended.",
        code=Code.BACKOFF,
    )
    PAUSED = ReasonRow(
        "Paused",
        "The whole operator, its namespace, or a scope that it belongs to is paused. Running attempts continue.",
        "No action is needed. To start it sooner, end the pause: the message says which object pauses it, and why.",
        code=Code.PAUSED,
        group_advice="To end the pause: `spoke-jobs resume SCOPE`.",
        for_a_place=True,
        needs=("source",),
        says=_paused,
    )
    QUEUE_LOCKED = ReasonRow(
        "QueueLocked",
        "Another job holds the lock of its queue.",
        "No action is needed. It can start when that job's attempt has ended.",
        code=Code.QUEUE_LOCK,
        group_advice="`spoke-jobs why ID` explains that job.",
        for_a_place=True,
        needs=("holder", "object"),
        says=lambda wait: f"SpokeJob {wait.holder} has the queue {wait.object!r}",
    )
    QUEUE_LIMIT_REACHED = ReasonRow(
        "QueueLimitReached",
        "The limit on running jobs of its queue is reached ({setting}, or a SpokeLimit).",
        "No action is needed. To start it sooner, raise the limit.",
        code=Code.LIMIT,
        setting="SPOKE_OPERATOR_MAX_RUNNING_IN_QUEUE",
        for_a_place=True,
        needs=("object", "running", "limit"),
        says=lambda wait: f"running jobs of the queue {wait.object!r}: {_full(wait)}{_by_source(wait)}",
    )
    ORGANIZATION_LIMIT_REACHED = ReasonRow(
        "OrganizationLimitReached",
        "The limit on running jobs of its organization is reached ({setting}, or a SpokeLimit).",
        "No action is needed. To start it sooner, raise the limit.",
        code=Code.LIMIT,
        setting="SPOKE_OPERATOR_MAX_RUNNING_FOR_ORGANIZATION",
        for_a_place=True,
        needs=("object", "running", "limit"),
        says=lambda wait: f"running jobs of organization {wait.object}: {_full(wait)}{_by_source(wait)}",
    )
    TYPE_LIMIT_REACHED = ReasonRow(
        "TypeLimitReached",
        "The limit on running jobs of its type is reached (`spoke-jobs limits ls`, or a SpokeLimit).",
        "No action is needed. To start it sooner, raise the limit.",
        code=Code.LIMIT,
        for_a_place=True,
        needs=("object", "running", "limit"),
        says=lambda wait: f"running jobs of the type {wait.object!r}: {_full(wait)}{_by_source(wait)}",
    )
    KEY_LIMIT_REACHED = ReasonRow(
        "KeyLimitReached",
        "The limit on running jobs with its limit_key is reached (`spoke-jobs limits ls`, or a SpokeLimit).",
        "No action is needed. To start it sooner, raise the limit.",
        code=Code.LIMIT,
        for_a_place=True,
        needs=("object", "running", "limit"),
        says=lambda wait: f"running jobs with the key {wait.object!r}: {_full(wait)}{_by_source(wait)}",
    )
    RATE_LIMIT_REACHED = ReasonRow(
        "RateLimitReached",
        "As many attempts of its scope have started as the rate allows (`spoke-jobs limits ls`, or a SpokeLimit).",
        "No action is needed. To start it sooner, raise the rate.",
        code=Code.LIMIT,
        for_a_place=True,
        needs=("object",),
        says=lambda wait: f"starts at most {wait.object}{_by_source(wait)}",
    )
    NAMESPACE_LIMIT_REACHED = ReasonRow(
        "NamespaceLimitReached",
        "The limit on running jobs of its namespace is reached ({setting}, or a SpokeLimit).",
        "No action is needed. To start it sooner, raise the limit.",
        code=Code.LIMIT,
        setting="SPOKE_OPERATOR_MAX_RUNNING_IN_NAMESPACE",
        for_a_place=True,
        needs=("running", "limit"),
        says=lambda wait: f"running jobs of the namespace: {_full(wait)}{_by_source(wait)}",
    )
    UNFINISHED_LIMIT_REACHED = ReasonRow(
        "UnfinishedLimitReached",
        "Its namespace has more unfinished SpokeJobs than its limit ({setting}, or a SpokeLimit). The oldest go first.",
        "No action is needed. It can start when older jobs have ended. To start it sooner, raise the limit.",
        code=Code.LIMIT,
        setting="SPOKE_OPERATOR_MAX_UNFINISHED_IN_NAMESPACE",
        for_a_place=True,
        needs=("running", "limit"),
        says=lambda wait: (
            f"unfinished jobs of the namespace: {wait.running}; only the oldest {wait.limit} may "
            f"start{_by_source(wait)}"
        ),
    )
    LIMIT_REACHED = ReasonRow(
        "LimitReached",
        "The limit on all running jobs is reached ({setting}).",
        "No action is needed. To start it sooner, raise the limit.",
        code=Code.LIMIT,
        setting="SPOKE_OPERATOR_MAX_RUNNING",
        for_a_place=True,
        needs=("running", "limit"),
        says=lambda wait: f"running jobs: {_full(wait)}{_by_source(wait)}",
    )
    DATABASE_AWAY = ReasonRow(
        "DatabaseAway",
        "Several attempts of its namespace could not reach the database. One attempt at a time tests the connection.",
        "Check that the database runs, that the namespace can reach it, and that the Secret with its URL has the "
        "right password. The jobs then start by themselves.",
        for_a_place=True,
        held_by_others=True,
        needs_attention=True,
        says=lambda wait: f"the database is away or refuses the namespace's attempts{_since(wait)}",
    )
    CLUSTER_FULL = ReasonRow(
        "ClusterFull",
        "No node has room for another pod of its PodTemplate. The start timeout does not count this time.",
        "No action is needed. It can start when other pods have ended. To start it sooner, add a node.",
        remedy="Add a node, or let other pods end; then `spoke-jobs retry ID`.",
        for_a_place=True,
        held_by_others=True,
        untimed=True,
        says=lambda wait: f"no node has room: {wait.object or 'room'} is short",
    )
    QUOTA_EXCEEDED = ReasonRow(
        "QuotaExceeded",
        "A ResourceQuota of its namespace is used up. The start timeout does not count this time.",
        "No action is needed if other pods end. If the quota is zero or stays used up, raise it, or request less.",
        lasting=(
            "Jobs start only as others end, until somebody raises the quota, requests less, or ends what uses it. "
            "`kubectl describe resourcequota QUOTA` shows the amounts, `kubectl get pods` the pods."
        ),
        for_a_place=True,
        held_by_others=True,
        untimed=True,
        needs=("quota",),
        says=lambda wait: quota_words(wait.object, wait.quota),
    )
    PODS_NOT_STARTING = ReasonRow(
        "PodsNotStarting",
        "Several pods of its PodTemplate can't start, or are refused. Each minute a few are tried again.",
        "The message says what keeps the pods from starting. Once that is corrected, the jobs start by themselves.",
        for_a_place=True,
        held_by_others=True,
        needs_attention=True,
    )
    START_LIMIT_REACHED = ReasonRow(
        "StartLimitReached",
        "The limit on pods that start at the same time is reached ({setting}).",
        "No action is needed. If pods start slowly, look at the nodes.",
        setting="SPOKE_OPERATOR_MAX_PENDING",
        for_a_place=True,
        held_by_others=True,
        needs=("running", "limit"),
        says=lambda wait: f"starting pods: {_full(wait)}",
    )
    REGISTRY_AWAY = ReasonRow(
        "RegistryAway",
        "Its image is not on the node, and the registry does not answer. The start timeout does not count this time.",
        "No action is needed if the registry comes back. Otherwise correct the image's name in the PodTemplate.",
        lasting="The registry stays away. Repair it, or correct the image's name in the PodTemplate.",
        needs_attention=True,
        untimed=True,
    )
    WEBHOOK_AWAY = ReasonRow(
        "WebhookAway",
        "A webhook does not answer, so no Job or pod is created. The start timeout does not count this time.",
        "The message names the webhook. Repair it, or remove its configuration.",
        remedy="Repair the webhook that the message names, or remove its configuration; then `spoke-jobs retry ID`.",
        for_a_place=True,
        held_by_others=True,
        needs_attention=True,
        untimed=True,
    )
    POD_PENDING = ReasonRow(
        "PodPending",
        "Its pod is being created, scheduled or started.",
        "No action is needed. This usually takes seconds.",
    )
    UNSCHEDULABLE = ReasonRow(
        "Unschedulable",
        "No node can take its pod, even without other pods: each one is too small, or the pod's rules exclude it.",
        "The scheduler's message says what each node lacks. Add a node, or request less, before the start timeout.",
        remedy="The message says what each node lacks. Add a node, or request less; then `spoke-jobs retry ID`.",
        needs_attention=True,
    )
    NO_NODE_MATCHES = ReasonRow(
        "NoNodeMatches",
        "No node matches the rules of its pod: labels, tolerations, affinity, ports or topology.",
        "The scheduler's message counts the nodes by what excludes them. Correct the PodTemplate, or label a node.",
        remedy=(
            "Correct the PodTemplate or label a node: the message says what excludes each. Then `spoke-jobs retry ID`."
        ),
        needs_attention=True,
    )
    RESOURCE_CLAIM_PENDING = ReasonRow(
        "ResourceClaimPending",
        "A ResourceClaim of its pod does not exist or is in use, or no device satisfies it.",
        "`kubectl describe resourceclaim` shows the requested device. Create the claim, or free or add a device.",
        remedy="Create the claim that the message names, or free or add a device; then `spoke-jobs retry ID`.",
        needs_attention=True,
    )
    SCHEDULING_GATED = ReasonRow(
        "SchedulingGated",
        "Its pod has scheduling gates, and is not scheduled before they are removed.",
        "Check that the controller that removes these gates runs, or remove the gates from the PodTemplate.",
        remedy=(
            "Find out why nothing removed the gates, or remove them from the PodTemplate; then `spoke-jobs retry ID`."
        ),
        needs_attention=True,
        needs=("object",),
        says=lambda wait: f"scheduling gates: {wait.object}",
    )
    INIT_RUNNING = ReasonRow(
        "InitRunning",
        "An init container of its pod still runs.",
        "Read its output: `kubectl logs -l jobs.spoke.dev/request-id=ID -c CONTAINER`. If it hangs, correct what "
        "it waits for; or correct the PodTemplate and delete the pod.",
        remedy=(
            "Read the container's output: `spoke-jobs show ID`; correct what it waits for, then `spoke-jobs retry ID`."
        ),
        needs=("object",),
        says=lambda wait: (
            f"container {wait.object!r} has run since {wait.since:%H:%M:%S} UTC and the job's container waits for it"
            if wait.since
            else f"the job's container waits for container {wait.object!r}"
        ),
    )
    SIDECAR_STARTING = ReasonRow(
        "SidecarStarting",
        "A sidecar of its pod runs, but its startup probe has not succeeded yet.",
        "Read its output: `kubectl logs -l jobs.spoke.dev/request-id=ID -c CONTAINER`. Correct the sidecar or its "
        "startupProbe in the PodTemplate, and delete the pod.",
        remedy="Correct the sidecar or its startupProbe in the PodTemplate; then `spoke-jobs retry ID`.",
        needs=("object",),
        says=lambda wait: (
            f"sidecar {wait.object!r} has run{_since(wait)}, and its startup probe has not succeeded"
            f"{f': {wait.detail}' if wait.detail else ''}"
        ),
    )
    SANDBOX_FAILED = ReasonRow(
        "SandboxFailed",
        "Its node can't prepare the pod: network, runtime class or devices.",
        "Read the message; check the node's network plugin, container runtime and device drivers.",
        remedy="Check the node's network plugin, container runtime and device drivers; then `spoke-jobs retry ID`.",
        needs_attention=True,
    )
    QUEUED_BY_KUEUE = ReasonRow(
        "QueuedByKueue",
        "Kueue has not admitted its Job yet. The start timeout does not count this time.",
        "`kubectl describe workload` names the quota that is used up.",
        untimed=True,
        says=lambda wait: "the Job is suspended until Kueue admits it",
    )
    DUE_LATER = ReasonRow(
        "DueLater",
        "The dispatch asked for a later time.",
        "",
        code=Code.DUE_LATER,
        given_by=Giver.WHY,
    )
    ASKED_LATER = ReasonRow(
        "AskedLater",
        "The job itself asked to be run again later (`RetryLater`).",
        "",
        code=Code.ASKED_LATER,
        given_by=Giver.WHY,
    )
    BLOCKED = ReasonRow(
        "DependenciesUnfinished",
        "Jobs that it depends on have not ended.",
        "",
        code=Code.BLOCKED,
        group_advice="`spoke-jobs why ID` names the jobs that job ID waits for.",
        given_by=Giver.WHY,
    )
    QUEUE_TURN = ReasonRow(
        "QueueTurn",
        "Other jobs that lock its queue come first.",
        "",
        code=Code.QUEUE_TURN,
        given_by=Giver.WHY,
    )
    NOT_CLAIMABLE = ReasonRow(
        "NotClaimable",
        "It is due, and a condition of claims keeps workers from starting it: the text says which.",
        "",
        code=Code.NOT_CLAIMABLE,
        given_by=Giver.WHY,
    )
    TAKEN = ReasonRow(
        "TakenElsewhere",
        "Other code has marked it as assigned, and runs it.",
        "",
        code=Code.TAKEN,
        group_advice=(
            "If that code is gone and the work may be repeated: `spoke-jobs cancel --reason taken`, then retry."
        ),
        given_by=Giver.WHY,
    )
    NO_WORKER = ReasonRow(
        "NoWorker",
        "There is no sign of a worker for its runner.",
        "",
        code=Code.NO_WORKER,
        group_advice=(
            "Start one: `spoke-jobs worker`. If one runs, its patterns (`--type`, `--queue`) leave these jobs out."
        ),
        given_by=Giver.WHY,
    )
    PASSED_OVER = ReasonRow(
        "PassedOver",
        "Workers start later jobs and not this one: it seems that none of them knows its type.",
        "",
        code=Code.PASSED_OVER,
        group_advice=(
            "Deploy workers whose SPOKE_APP declares TYPE, and whose patterns (`--type`, `--queue`) let it pass, or "
            "correct the name and dispatch again."
        ),
        given_by=Giver.WHY,
    )
    BEHIND = ReasonRow(
        "BehindOthers",
        "Jobs of a higher priority, or older ones, come first.",
        "",
        code=Code.BEHIND,
        given_by=Giver.WHY,
    )
    WORKERS_BUSY = ReasonRow(
        "WorkersBusy",
        "It is the next one, and all workers are busy.",
        "",
        code=Code.WORKERS_BUSY,
        group_advice="To start jobs sooner, start more workers.",
        given_by=Giver.WHY,
    )
    NEXT = ReasonRow(
        "NextInLine",
        "It is due: the next claim of a worker finds it.",
        "",
        code=Code.NEXT,
        group_advice="If none starts soon, check the patterns of the workers (`--type`, `--queue` and `--exclude-*`).",
        given_by=Giver.WHY,
    )
    NOT_SUBMITTED = ReasonRow(
        "NotSubmitted",
        "It has no SpokeJob yet, as far as the ledger knows.",
        "",
        code=Code.NOT_SUBMITTED,
        group_advice="Check that `spoke-jobs sync` runs, and read its log.",
        given_by=Giver.WHY,
    )
    SUBMITTED = ReasonRow(
        "Submitted",
        "Its SpokeJob exists; the rest is decided in the cluster.",
        "",
        code=Code.SUBMITTED,
        group_advice="`kubectl get spokejobs` shows the reason to wait.",
        given_by=Giver.WHY,
    )
    NO_OPERATOR = ReasonRow(
        "NoOperator",
        "No operator has been seen for a while.",
        "",
        code=Code.NO_OPERATOR,
        given_by=Giver.WHY,
    )
    SPOKEJOB_GONE = ReasonRow(
        "SpokeJobGone",
        "Its SpokeJob no longer exists.",
        "",
        code=Code.SPOKEJOB_GONE,
        given_by=Giver.WHY,
    )


REASONS: Mapping[str, WaitReason] = MappingProxyType({reason.value: reason for reason in WaitReason})
"""Every reason by its name."""
WAITS: Mapping[str, WaitReason] = MappingProxyType(
    {reason.value: reason for reason in WaitReason if reason.row.given_by is Giver.OPERATOR}
)
"""The reasons of SpokeJobs by their names."""
HELD_BY_OTHERS = frozenset(reason for reason in WaitReason if reason.row.held_by_others)
NEED_ATTENTION = frozenset(reason for reason in WaitReason if reason.row.needs_attention)
FOR_A_PLACE = frozenset(reason for reason in WaitReason if reason.row.for_a_place)
UNTIMED = frozenset(reason for reason in WaitReason if reason.row.untimed)
