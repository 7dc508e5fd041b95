"""Why a SpokeJob waits: the table of reasons, and the value that operator and command line exchange.

If a SpokeJob waits until an obstacle is fixed, the reason is the cause with which it would end (:mod:`.causes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Self


class WaitReason(StrEnum):
    """The reasons to wait without an error. Each member is one row: name, meaning, advice, setting.

    The name is CamelCase. It is a condition's reason, and the SpokeJob's `status.cause` while it waits, except for
    `BackingOff` and `PodPending`.
    """

    meaning: str
    advice: str
    setting: str
    """The operator's setting with the limit; empty for none."""

    def __new__(cls, value: str, meaning: str, advice: str, setting: str = "") -> Self:
        """Create the member of one row."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.setting = setting
        member.meaning, member.advice = meaning.format(setting=f"`{setting}`"), advice
        return member

    SUSPENDED = ("Suspended", "`spec.suspend` is true.", "Set it to false, and the next attempt starts.")
    BACKING_OFF = (
        "BackingOff",
        "An attempt has failed; the next one is due at `status.nextAttemptAt`.",
        "Nothing: it starts then. `status.cause` says how the attempt ended.",
    )
    QUEUE_LOCKED = (
        "QueueLocked",
        "Another job that locks its queue has an attempt under way.",
        "Nothing: it starts when that one has ended.",
    )
    QUEUE_LIMIT_REACHED = (
        "QueueLimitReached",
        "As many jobs of its queue run as the limit allows ({setting}).",
        "Nothing, or raise the limit.",
        "SPOKE_OPERATOR_MAX_RUNNING_IN_QUEUE",
    )
    ORGANIZATION_LIMIT_REACHED = (
        "OrganizationLimitReached",
        "As many jobs of its organization run as the limit allows ({setting}).",
        "Nothing, or raise the limit.",
        "SPOKE_OPERATOR_MAX_RUNNING_FOR_ORGANIZATION",
    )
    NAMESPACE_LIMIT_REACHED = (
        "NamespaceLimitReached",
        "As many jobs of its namespace run as the limit allows ({setting}).",
        "Nothing, or raise the limit.",
        "SPOKE_OPERATOR_MAX_RUNNING_IN_NAMESPACE",
    )
    LIMIT_REACHED = (
        "LimitReached",
        "As many jobs run as the limit allows ({setting}).",
        "Nothing, or raise the limit.",
        "SPOKE_OPERATOR_MAX_RUNNING",
    )
    POD_PENDING = ("PodPending", "Its pod is being created, scheduled or started.", "Nothing: this takes seconds.")
    UNSCHEDULABLE = (
        "Unschedulable",
        "No node has room for its pod, or none fits. At the start timeout it ends as StartTimeout.",
        "Read the condition's message, which is the scheduler's; add a node, or request less.",
    )
    QUEUED_BY_KUEUE = (
        "QueuedByKueue",
        "Kueue has not admitted its Job yet. The start timeout does not count this time.",
        "`kubectl describe workload` names the quota that is used up.",
    )


WAITS: Mapping[str, WaitReason] = MappingProxyType({reason.value: reason for reason in WaitReason})
"""Every reason by its name."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why one SpokeJob waits. :mod:`.wait_text` turns it into text."""

    code: str
    """A :class:`WaitReason` or :class:`spoke_jobs.contract.causes.Cause`; a newer release may send other names."""
    holder: str = ""
    """The SpokeJob that holds the queue's lock."""
    object: str = ""
    """The name of the queue, organization, PodTemplate or Job that the wait concerns."""
    running: int | None = None
    """How many jobs count towards the limit."""
    limit: int | None = None
    position: int | None = None
    """How many SpokeJobs have their turn before it. Only readers of the published order of turns set it."""
    since: datetime | None = None
    retry_at: datetime | None = None
    """When the next try is due, if that is known."""
    detail: str = ""
    """Kubernetes' message about it."""
