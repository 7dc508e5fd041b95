"""What a SpokeJob waits for, where that is no fault: one table, read by operator, command line and documentation.

Where it waits for something to be mended, the reason is the cause that it will end with (:mod:`.causes`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Self


class WaitReason(StrEnum):
    """What a SpokeJob waits for: a name, and what belongs to it. Each member is one row.

    The name is CamelCase; it stands in the SpokeJob's `status.cause` while it waits, and as a condition's reason.
    """

    meaning: str
    advice: str

    def __new__(cls, value: str, meaning: str, advice: str) -> Self:
        """Create the member of one row."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning, member.advice = meaning, advice
        return member

    SUSPENDED = ("Suspended", "`spec.suspend` is true.", "Set it to false, and the next attempt starts.")
    QUEUE_LOCKED = (
        "QueueLocked",
        "Another locking job of its queue has an attempt under way.",
        "Nothing: it starts when that one has ended.",
    )
    QUEUE_LIMIT_REACHED = (
        "QueueLimitReached",
        "As many jobs of its queue run as may (`SPOKE_OPERATOR_MAX_RUNNING_IN_QUEUE`).",
        "Nothing, or raise the limit.",
    )
    ORGANIZATION_LIMIT_REACHED = (
        "OrganizationLimitReached",
        "As many jobs of its organisation run as may (`SPOKE_OPERATOR_MAX_RUNNING_FOR_ORGANIZATION`).",
        "Nothing, or raise the limit.",
    )
    NAMESPACE_LIMIT_REACHED = (
        "NamespaceLimitReached",
        "As many jobs of its namespace run as may (`SPOKE_OPERATOR_MAX_RUNNING_IN_NAMESPACE`).",
        "Nothing, or raise the limit.",
    )
    LIMIT_REACHED = (
        "LimitReached",
        "As many jobs run as may (`SPOKE_OPERATOR_MAX_RUNNING`).",
        "Nothing, or raise the limit.",
    )
    POD_PENDING = ("PodPending", "Its pod is being made, scheduled or started.", "Nothing: this takes seconds.")
    UNSCHEDULABLE = (
        "Unschedulable",
        "No node has room for its pod, or none fits; final, as StartTimeout, with the start timeout.",
        "Read the condition's message, which is the scheduler's; add a node, or ask for less.",
    )
    QUEUED_BY_KUEUE = (
        "QueuedByKueue",
        "Kueue has not admitted its Job yet. The start timeout does not run meanwhile.",
        "`kubectl describe workload`: it names the quota that is used up.",
    )


_HOLDER = re.compile(r"SpokeJob (\S+) has the queue ")


def locked_by(spokejob: str, queue: str) -> str:
    """The message of a SpokeJob that waits for its queue."""
    return f"SpokeJob {spokejob} has the queue {queue!r}"


def holder_in(message: str) -> str:
    """The SpokeJob that such a message names; empty if it is none."""
    match = _HOLDER.match(message)
    return match[1] if match else ""


WAITS: Mapping[str, WaitReason] = MappingProxyType({reason.value: reason for reason in WaitReason})
"""Every reason by its name."""
