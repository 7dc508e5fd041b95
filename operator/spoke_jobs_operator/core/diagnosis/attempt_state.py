"""The states of an attempt that :func:`.diagnose.diagnose` returns. Frozen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

STOPPING = "Stopping"


@dataclass(frozen=True, slots=True)
class Ended:
    """The attempt has ended, or has to be ended (``stop``)."""

    cause: str
    """Empty after a success; else the name of a cause."""
    error_type: str = ""
    exit_code: int | None = None
    for_good: bool = False
    """Whether the attempt reported that a retry can't succeed."""
    retry_after_seconds: float | None = None
    """The delay that the attempt asked for before the next one."""
    message: str = ""
    """What Kubernetes said about the end, without output of the job's container."""
    container: str = ""
    """The container that failed or could not start, if it is not the job's."""
    reason: str = ""
    """With `StartTimeout`: what the attempt waited for."""
    recorded: bool = False
    """Whether its process has recorded the end in the ledger, so that its database answered."""
    stop: bool = False
    """Whether a pod may still run or start, so that the Job has to be deleted first."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The container runs."""

    stopping: bool
    """Whether the pod is stopping; how it ends is not known yet."""
    check_at: datetime | None


@dataclass(frozen=True, slots=True)
class Pends:
    """The container doesn't run yet."""

    reason: str
    """A Cause for an obstacle that may be fixed; else a WaitReason."""
    message: str
    check_at: datetime | None
    object: str = ""
    """What the reason concerns: a container, a volume claim, a scheduling gate."""
    since: datetime | None = None
    """When the obstacle appeared, if Kubernetes says so."""
    ends_at: datetime | None = None
    """When the attempt ends if it still waits; None if nothing ends it."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """The cached objects are incomplete or contradict each other: read them live."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long the attempt may take, in seconds."""

    start: float
    run: float | None
    ran: bool = False
    """Whether the attempt's container has been observed running."""
    obstructed_since: datetime | None = None
    """Since when the attempt's pod fits no node or is rejected, if it waited before for something that does not count.
    """
    node_lost: bool = False
    """Whether the attempt before, with the same PodTemplate, had a node that went away. The pod would fit that node."""
    by_quota: bool = False
    """Whether a quota refused the attempt's pod when its state was last recorded."""
    observed_since: datetime | None = None
    """Since when this operator leads."""
    assigned_at: datetime | None = None
    """When the attempt was assigned to a standby pod, which has run since earlier; None if it has a pod of its own."""
