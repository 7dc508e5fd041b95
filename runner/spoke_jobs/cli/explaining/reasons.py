"""What is said of a job: the shapes that `why` decides on and prints."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from spoke_jobs.cli.words import ago, until

CLUSTER = "kubernetes"
MESSAGE_LIMIT = 300
SEE_TO_THE_OPERATOR = "see that the spoke-operator runs and serves this namespace (SPOKE_OPERATOR_NAMESPACES)"


class Code(StrEnum):
    """A reason's stable name, for scripts."""

    DUE_LATER = "due_later"
    """The dispatch asked for a later time."""
    BACKOFF = "backoff"
    """An attempt failed; the next one follows after the retry policy's wait."""
    ASKED_LATER = "asked_later"
    """The job itself asked to be run again later (RetryLater)."""
    QUEUE_LOCK = "queue_lock"
    """Another job holds its queue's lock."""
    QUEUE_TURN = "queue_turn"
    """Other jobs that lock its queue come first."""
    NO_WORKER = "no_worker"
    """No sign of a worker for its runner."""
    PASSED_OVER = "passed_over"
    """Workers start later jobs and leave this one: none of them knows its type, it seems."""
    BEHIND = "behind"
    """Jobs of a higher priority, or older ones, come first."""
    WORKERS_BUSY = "workers_busy"
    """It is the next one, and no worker is free."""
    NEXT = "next"
    """It is due: the next look of a worker finds it."""
    START_BY = "start_by"
    """It fails at a known time, unless it has started by then."""
    NOT_SUBMITTED = "not_submitted"
    """Its SpokeJob isn't known to exist yet."""
    SUBMITTED = "submitted"
    """Its SpokeJob exists: what follows is the cluster's."""
    CLUSTER = "cluster"
    """What it waits for in the cluster, in the operator's own word (the table of waits, or of causes)."""
    TURN = "turn"
    """How many wait for a place before it."""
    NO_OPERATOR = "no_operator"
    """No operator has been seen for a while."""
    SPOKEJOB_GONE = "spokejob_gone"
    """Its SpokeJob is not there any more."""
    CLUSTER_UNKNOWN = "cluster_unknown"
    """The cluster could not be asked."""
    RUNNING = "running"
    """An attempt runs: where, since when, how far, and how long its lease holds."""
    LEASE_LAPSED = "lease_lapsed"
    """Its worker has not renewed its lease: it may be gone."""
    CANCELLING = "cancelling"
    """It was asked to stop, and hasn't yet."""
    SUCCEEDED = "succeeded"
    """It has ended."""
    FAILED = "failed"
    """It has ended: the cause, what it means, and what to do."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that holds a job up, or that is to be said of it."""

    code: Code
    text: str
    """A sentence."""
    advice: str = ""
    """What the reader can do; empty where nothing needs doing."""
    until: datetime | None = None
    """When it is over, where that is known."""
    job_id: int | None = None
    """The other job that it is about."""
    worker: str | None = None
    number: int | None = None
    """How many jobs it is about."""
    cause: str = ""
    """The operator's word for it, where there is one."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What there is to say of a job, the weightiest first."""

    reasons: tuple[Reason, ...]
    output_tail: str = ""
    """Of the attempt that ended it."""


def when(then: datetime, now: datetime) -> str:
    """How far a time is away, on either side."""
    return until(then, now) if then > now else ago(then, now)
