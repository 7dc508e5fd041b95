"""What a SpokeJob waits for, where that is no fault: one table, read by operator, command line and documentation.

Where it waits for something to be mended, the reason is the cause that it will end with (:mod:`.causes`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SUSPENDED = "Suspended"
QUEUE_LOCKED = "QueueLocked"
QUEUE_LIMIT = "QueueLimitReached"
ORGANIZATION_LIMIT = "OrganizationLimitReached"
NAMESPACE_LIMIT = "NamespaceLimitReached"
LIMIT = "LimitReached"
POD_PENDING = "PodPending"
UNSCHEDULABLE = "Unschedulable"
KUEUE = "QueuedByKueue"


@dataclass(frozen=True, slots=True)
class Wait:
    """One row of the table."""

    name: str
    """CamelCase; stands in the SpokeJob's `status.cause` while it waits, and as a condition's reason."""
    meaning: str
    advice: str


_TABLE = (
    Wait(SUSPENDED, "`spec.suspend` is true.", "Set it to false, and the next attempt starts."),
    Wait(QUEUE_LOCKED, "Another locking job of its queue has an attempt under way.",
         "Nothing: it starts when that one has ended."),
    Wait(QUEUE_LIMIT, "As many jobs of its queue run as may (`SPOKE_OPERATOR_MAX_RUNNING_IN_QUEUE`).",
         "Nothing, or raise the limit."),
    Wait(ORGANIZATION_LIMIT,
         "As many jobs of its organisation run as may (`SPOKE_OPERATOR_MAX_RUNNING_FOR_ORGANIZATION`).",
         "Nothing, or raise the limit."),
    Wait(NAMESPACE_LIMIT, "As many jobs of its namespace run as may (`SPOKE_OPERATOR_MAX_RUNNING_IN_NAMESPACE`).",
         "Nothing, or raise the limit."),
    Wait(LIMIT, "As many jobs run as may (`SPOKE_OPERATOR_MAX_RUNNING`).", "Nothing, or raise the limit."),
    Wait(POD_PENDING, "Its pod is being made, scheduled or started.", "Nothing: this takes seconds."),
    Wait(UNSCHEDULABLE, "No node has room for its pod, or none fits; final, as StartTimeout, with the start timeout.",
         "Read the condition's message, which is the scheduler's; add a node, or ask for less."),
    Wait(KUEUE, "Kueue has not admitted its Job yet. The start timeout does not run meanwhile.",
         "`kubectl describe workload`: it names the quota that is used up."),
)  # fmt: skip

_HOLDER = re.compile(r"SpokeJob (\S+) has the queue ")


def locked_by(spokejob: str, queue: str) -> str:
    """The message of a SpokeJob that waits for its queue."""
    return f"SpokeJob {spokejob} has the queue {queue!r}"


def holder_in(message: str) -> str:
    """The SpokeJob that such a message names; empty if it is none."""
    match = _HOLDER.match(message)
    return match[1] if match else ""


WAITS: Mapping[str, Wait] = MappingProxyType({wait.name: wait for wait in _TABLE})
"""Every reason by its name."""
