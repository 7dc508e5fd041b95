"""Why a SpokeJob waits: the table of reasons, and the value that operator and command line exchange.

If a SpokeJob waits until somebody removes an obstacle, its code is a cause (:mod:`.causes`). If nobody removes the
obstacle, the SpokeJob ends with that cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Self

from spoke_jobs.contract.quota_message import QuotaUse


class WaitReason(StrEnum):
    """The reasons to wait without an error. Each member is one row: name, meaning, advice, setting, remedy.

    The name is CamelCase. Conditions show it as their reason. While the SpokeJob waits, `status.cause` shows it too,
    unless it is `BackingOff` or `PodPending`.
    """

    meaning: str
    advice: str
    setting: str
    """The operator's setting with the limit; empty for none."""
    remedy: str
    """What the reader can do about a job that has ended because it waited too long; empty for a reason that never ends
    a job. In both texts, `ID` stands for the job's id, and `CONTAINER` for the container that it waits for."""

    def __new__(cls, value: str, meaning: str, advice: str, setting: str = "", remedy: str = "") -> Self:
        """Create the member of one row."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.setting, member.remedy = setting, remedy
        member.meaning, member.advice = meaning.format(setting=f"`{setting}`"), advice
        return member

    SUSPENDED = ("Suspended", "`spec.suspend` is true.", "Set it to false, and the next attempt starts.")
    BACKING_OFF = (
        "BackingOff",
        "An attempt has failed; the next one is due at `status.nextAttemptAt`.",
        "No action is needed. `status.cause` says how the attempt ended.",
    )
    PAUSED = (
        "Paused",
        "The whole operator, its namespace, or a scope that it belongs to is paused. Running attempts continue.",
        "No action is needed. To start it sooner, end the pause: the message says which object pauses it, and why.",
    )
    QUEUE_LOCKED = (
        "QueueLocked",
        "Another job holds the lock of its queue.",
        "No action is needed. It can start when that job's attempt has ended.",
    )
    QUEUE_LIMIT_REACHED = (
        "QueueLimitReached",
        "The limit on running jobs of its queue is reached ({setting}, or a SpokeLimit).",
        "No action is needed. To start it sooner, raise the limit.",
        "SPOKE_OPERATOR_MAX_RUNNING_IN_QUEUE",
    )
    ORGANIZATION_LIMIT_REACHED = (
        "OrganizationLimitReached",
        "The limit on running jobs of its organization is reached ({setting}, or a SpokeLimit).",
        "No action is needed. To start it sooner, raise the limit.",
        "SPOKE_OPERATOR_MAX_RUNNING_FOR_ORGANIZATION",
    )
    TYPE_LIMIT_REACHED = (
        "TypeLimitReached",
        "The limit on running jobs of its type is reached (`spoke-jobs limits ls`, or a SpokeLimit).",
        "No action is needed. To start it sooner, raise the limit.",
    )
    KEY_LIMIT_REACHED = (
        "KeyLimitReached",
        "The limit on running jobs with its limit_key is reached (`spoke-jobs limits ls`, or a SpokeLimit).",
        "No action is needed. To start it sooner, raise the limit.",
    )
    RATE_LIMIT_REACHED = (
        "RateLimitReached",
        "As many attempts of its scope have started as the rate allows (`spoke-jobs limits ls`, or a SpokeLimit).",
        "No action is needed. To start it sooner, raise the rate.",
    )
    NAMESPACE_LIMIT_REACHED = (
        "NamespaceLimitReached",
        "The limit on running jobs of its namespace is reached ({setting}, or a SpokeLimit).",
        "No action is needed. To start it sooner, raise the limit.",
        "SPOKE_OPERATOR_MAX_RUNNING_IN_NAMESPACE",
    )
    UNFINISHED_LIMIT_REACHED = (
        "UnfinishedLimitReached",
        "Its namespace has more unfinished SpokeJobs than its limit ({setting}, or a SpokeLimit). The oldest go first.",
        "No action is needed. It can start when older jobs have ended. To start it sooner, raise the limit.",
        "SPOKE_OPERATOR_MAX_UNFINISHED_IN_NAMESPACE",
    )
    LIMIT_REACHED = (
        "LimitReached",
        "The limit on all running jobs is reached ({setting}).",
        "No action is needed. To start it sooner, raise the limit.",
        "SPOKE_OPERATOR_MAX_RUNNING",
    )
    DATABASE_AWAY = (
        "DatabaseAway",
        "Several attempts of its namespace could not reach the database. One attempt at a time tests the connection.",
        (
            "Check that the database runs, that the namespace can reach it, and that the Secret with its URL has the "
            "right password. The jobs then start by themselves."
        ),
    )
    CLUSTER_FULL = (
        "ClusterFull",
        "No node has room for another pod of its PodTemplate. The start timeout does not count this time.",
        "No action is needed. It can start when other pods have ended. To start it sooner, add a node.",
        "",
        "Add a node, or let other pods end; then `spoke-jobs retry ID`.",
    )
    QUOTA_EXCEEDED = (
        "QuotaExceeded",
        "A ResourceQuota of its namespace is used up. The start timeout does not count this time.",
        "No action is needed if other pods end. If the quota is zero or stays used up, raise it, or request less.",
    )
    PODS_NOT_STARTING = (
        "PodsNotStarting",
        "Several pods of its PodTemplate can't start, or are refused. Each minute a few are tried again.",
        "The message says what keeps the pods from starting. Once that is corrected, the jobs start by themselves.",
    )
    START_LIMIT_REACHED = (
        "StartLimitReached",
        "The limit on pods that start at the same time is reached ({setting}).",
        "No action is needed. If pods start slowly, look at the nodes.",
        "SPOKE_OPERATOR_MAX_PENDING",
    )
    REGISTRY_AWAY = (
        "RegistryAway",
        "Its image is not on the node, and the registry does not answer. The start timeout does not count this time.",
        "No action is needed if the registry comes back. Otherwise correct the image's name in the PodTemplate.",
    )
    WEBHOOK_AWAY = (
        "WebhookAway",
        "A webhook does not answer, so no Job or pod is created. The start timeout does not count this time.",
        "The message names the webhook. Repair it, or remove its configuration.",
        "",
        "Repair the webhook that the message names, or remove its configuration; then `spoke-jobs retry ID`.",
    )
    POD_PENDING = (
        "PodPending",
        "Its pod is being created, scheduled or started.",
        "No action is needed. This usually takes seconds.",
    )
    UNSCHEDULABLE = (
        "Unschedulable",
        "No node can take its pod, even without other pods: each one is too small, or the pod's rules exclude it.",
        "The scheduler's message says what each node lacks. Add a node, or request less, before the start timeout.",
        "",
        "The message says what each node lacks. Add a node, or request less; then `spoke-jobs retry ID`.",
    )
    NO_NODE_MATCHES = (
        "NoNodeMatches",
        "No node matches the rules of its pod: labels, tolerations, affinity, ports or topology.",
        "The scheduler's message counts the nodes by what excludes them. Correct the PodTemplate, or label a node.",
        "",
        "Correct the PodTemplate or label a node: the message says what excludes each. Then `spoke-jobs retry ID`.",
    )
    RESOURCE_CLAIM_PENDING = (
        "ResourceClaimPending",
        "A ResourceClaim of its pod does not exist or is in use, or no device satisfies it.",
        "`kubectl describe resourceclaim` shows the requested device. Create the claim, or free or add a device.",
        "",
        "Create the claim that the message names, or free or add a device; then `spoke-jobs retry ID`.",
    )
    SCHEDULING_GATED = (
        "SchedulingGated",
        "Its pod has scheduling gates, and is not scheduled before they are removed.",
        "Check that the controller that removes these gates runs, or remove the gates from the PodTemplate.",
        "",
        "Find out why nothing removed the gates, or remove them from the PodTemplate; then `spoke-jobs retry ID`.",
    )
    INIT_RUNNING = (
        "InitRunning",
        "An init container of its pod still runs.",
        (
            "Read its output: `kubectl logs -l jobs.spoke.dev/request-id=ID -c CONTAINER`. If it hangs, correct what "
            "it waits for; or correct the PodTemplate and delete the pod."
        ),
        "",
        "Read the container's output: `spoke-jobs show ID`; correct what it waits for, then `spoke-jobs retry ID`.",
    )
    SIDECAR_STARTING = (
        "SidecarStarting",
        "A sidecar of its pod runs, but its startup probe has not succeeded yet.",
        (
            "Read its output: `kubectl logs -l jobs.spoke.dev/request-id=ID -c CONTAINER`. Correct the sidecar or its "
            "startupProbe in the PodTemplate, and delete the pod."
        ),
        "",
        "Correct the sidecar or its startupProbe in the PodTemplate; then `spoke-jobs retry ID`.",
    )
    SANDBOX_FAILED = (
        "SandboxFailed",
        "Its node can't prepare the pod: network, runtime class or devices.",
        "Read the message; check the node's network plugin, container runtime and device drivers.",
        "",
        "Check the node's network plugin, container runtime and device drivers; then `spoke-jobs retry ID`.",
    )
    QUEUED_BY_KUEUE = (
        "QueuedByKueue",
        "Kueue has not admitted its Job yet. The start timeout does not count this time.",
        "`kubectl describe workload` names the quota that is used up.",
    )


WAITS: Mapping[str, WaitReason] = MappingProxyType({reason.value: reason for reason in WaitReason})
"""Every reason by its name."""

HELD_BY_OTHERS = frozenset(
    {
        WaitReason.CLUSTER_FULL,
        WaitReason.QUOTA_EXCEEDED,
        WaitReason.START_LIMIT_REACHED,
        WaitReason.DATABASE_AWAY,
        WaitReason.WEBHOOK_AWAY,
        WaitReason.PODS_NOT_STARTING,
    }
)
"""Reasons that concern many jobs at once and end without an action on the job."""

NEED_ATTENTION = frozenset(
    {
        WaitReason.DATABASE_AWAY,
        WaitReason.PODS_NOT_STARTING,
        WaitReason.REGISTRY_AWAY,
        WaitReason.WEBHOOK_AWAY,
        WaitReason.UNSCHEDULABLE,
        WaitReason.NO_NODE_MATCHES,
        WaitReason.RESOURCE_CLAIM_PENDING,
        WaitReason.SCHEDULING_GATED,
        WaitReason.SANDBOX_FAILED,
    }
)
"""Reasons that, like causes, usually do not end by themselves. Their Events are warnings, and alerts name them."""

FOR_A_PLACE = HELD_BY_OTHERS | {
    WaitReason.PAUSED,
    WaitReason.QUEUE_LOCKED,
    WaitReason.KEY_LIMIT_REACHED,
    WaitReason.TYPE_LIMIT_REACHED,
    WaitReason.QUEUE_LIMIT_REACHED,
    WaitReason.ORGANIZATION_LIMIT_REACHED,
    WaitReason.NAMESPACE_LIMIT_REACHED,
    WaitReason.UNFINISHED_LIMIT_REACHED,
    WaitReason.LIMIT_REACHED,
    WaitReason.RATE_LIMIT_REACHED,
}
"""The reasons for which admission holds back a SpokeJob that could start."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why one SpokeJob waits. :mod:`.wait_text` turns it into text."""

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
