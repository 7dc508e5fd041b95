"""The values that `why` prints: codes, reasons, an explanation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from spoke_jobs.explain.words import ago, until

CLUSTER = "kubernetes"
MESSAGE_LIMIT = 300
SEE_TO_THE_OPERATOR = (
    "check that the spoke-operator runs and serves this namespace (SPOKE_OPERATOR_NAMESPACES); if it lacks a right "
    "here, its log names it"
)


class Code(StrEnum):
    """A reason's stable name, for scripts."""

    DUE_LATER = "due_later"
    """The dispatch asked for a later time."""
    BACKOFF = "backoff"
    """An attempt failed; the next one follows after the retry policy's wait."""
    ASKED_LATER = "asked_later"
    """The job itself asked to be run again later (RetryLater)."""
    PAUSED = "paused"
    """Its scope is paused: by whom, since when, and why."""
    LIMIT = "limit"
    """A limit or a rate is reached."""
    BLOCKED = "blocked"
    """Jobs that it depends on have not ended."""
    QUEUE_LOCK = "queue_lock"
    """Another job holds the lock of its queue."""
    QUEUE_TURN = "queue_turn"
    """Other jobs that lock its queue come first."""
    TAKEN = "taken"
    """Other code has marked it as assigned, and runs it."""
    NO_WORKER = "no_worker"
    """There is no sign of a worker for its runner."""
    PASSED_OVER = "passed_over"
    """Workers start later jobs and not this one: it seems that none of them knows its type."""
    BEHIND = "behind"
    """Jobs of a higher priority, or older ones, come first."""
    WORKERS_BUSY = "workers_busy"
    """It is the next one, and all workers are busy."""
    NEXT = "next"
    """It is due: the next claim of a worker finds it."""
    START_BY = "start_by"
    """It fails at a known time, unless it has started by then."""
    NOT_SUBMITTED = "not_submitted"
    """It has no SpokeJob yet, as far as the ledger knows."""
    SUBMITTED = "submitted"
    """Its SpokeJob exists; the rest is decided in the cluster."""
    CLUSTER = "cluster"
    """The operator's reason or cause says what it waits for."""
    TURN = "turn"
    """How many jobs are ahead of it in the order of turns."""
    NO_OPERATOR = "no_operator"
    """No operator has been seen for a while."""
    SPOKEJOB_GONE = "spokejob_gone"
    """Its SpokeJob no longer exists."""
    CLUSTER_UNKNOWN = "cluster_unknown"
    """The cluster did not answer."""
    RUNNING = "running"
    """An attempt runs: where, since when, how far, and how long its lease holds."""
    LEASE_LAPSED = "lease_lapsed"
    """Its worker has not renewed the lease, and may be gone."""
    HOLDS_UP = "holds_up"
    """It reports no progress, and other jobs wait for the lock of its queue."""
    CANCELLING = "cancelling"
    """It was asked to stop, and still runs."""
    SUCCEEDED = "succeeded"
    """It has ended."""
    FAILED = "failed"
    """It has ended: the cause, what it means, and what to do."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that a job waits for, or that explains its state."""

    code: Code
    text: str
    """A sentence."""
    advice: str = ""
    """What the reader can do; empty if there is nothing to do."""
    until: datetime | None = None
    """When the reason ends, if that is known."""
    job_id: int | None = None
    """The other job that the reason names."""
    worker: str | None = None
    number: int | None = None
    """How many jobs the reason counts."""
    cause: str = ""
    """The operator's reason or cause; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The reasons for a job's state, the most important first."""

    reasons: tuple[Reason, ...]
    output_tail: str = ""
    """The output of the attempt that ended the job."""


def when(then: datetime, now: datetime) -> str:
    """Format how far away a time is, in the past or in the future."""
    return until(then, now) if then > now else ago(then, now)
