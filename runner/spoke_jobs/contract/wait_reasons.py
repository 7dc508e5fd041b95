"""What a SpokeJob waits for: the table of reasons, and the value that operator and command line exchange.

Where it waits for an obstacle to be fixed, the reason is the cause that it will end with (:mod:`.causes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Self


class WaitReason(StrEnum):
    """What a SpokeJob waits for where nothing is at fault. Each member is one row: name, meaning, advice, setting.

    The name is CamelCase. It is a condition's reason, and the SpokeJob's `status.cause` while it waits, except for
    `BackingOff` and `PodPending`.
    """

    meaning: str
    advice: str
    setting: str
    """The operator's setting that bounds it; empty where none does."""

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
        "No node has room for its pod, or none fits. With the start timeout it ends as StartTimeout.",
        "Read the condition's message, which is the scheduler's; add a node, or request less.",
    )
    QUEUED_BY_KUEUE = (
        "QueuedByKueue",
        "Kueue has not admitted its Job yet. The start timeout does not run meanwhile.",
        "`kubectl describe workload` names the quota that is used up.",
    )


WAITS: Mapping[str, WaitReason] = MappingProxyType({reason.value: reason for reason in WaitReason})
"""Every reason by its name."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What one SpokeJob waits for. :mod:`.wait_text` makes text of it."""

    code: str
    """A :class:`WaitReason`, a :class:`spoke_jobs.contract.causes.Cause`, or a newer release's name for either."""
    holder: str = ""
    """The SpokeJob that has the lock of its queue."""
    object: str = ""
    """The name of what is full, missing or taken: a queue, an organization, a PodTemplate, a Job."""
    running: int | None = None
    """How many jobs count towards the limit."""
    limit: int | None = None
    position: int | None = None
    """How many have their turn before it; known to a reader of the published order of turns only."""
    since: datetime | None = None
    retry_at: datetime | None = None
    """When the next try is due, where that is known."""
    detail: str = ""
    """What Kubernetes says of it, in its own words."""
