"""The codes that `spoke-jobs why` prints before each reason."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """The codes of `why`, for scripts: a stable name for a group of reasons to wait, or for the state of a job.

    Each :class:`.wait_reasons.WaitReason` has one code. A code without a text here means what its reason means.
    """

    DUE_LATER = "due_later"
    BACKOFF = "backoff"
    """An attempt failed; the next one follows after the retry policy's wait."""
    ASKED_LATER = "asked_later"
    PAUSED = "paused"
    """Its scope is paused: by whom, since when, and why."""
    LIMIT = "limit"
    """A limit or a rate is reached."""
    BLOCKED = "blocked"
    QUEUE_LOCK = "queue_lock"
    QUEUE_TURN = "queue_turn"
    TAKEN = "taken"
    NO_WORKER = "no_worker"
    PASSED_OVER = "passed_over"
    BEHIND = "behind"
    WORKERS_BUSY = "workers_busy"
    NEXT = "next"
    START_BY = "start_by"
    """It fails at a known time, unless it has started by then."""
    NOT_SUBMITTED = "not_submitted"
    SUBMITTED = "submitted"
    CLUSTER = "cluster"
    """The operator's reason or cause says what it waits for."""
    TURN = "turn"
    """How many jobs are ahead of it in the order of turns."""
    NO_OPERATOR = "no_operator"
    SPOKEJOB_GONE = "spokejob_gone"
    CLUSTER_UNKNOWN = "cluster_unknown"
    """The cluster did not answer."""
    MOVED = "moved"
    """It has moved from a worker to a pod: an attempt there took too much or was killed, or none was free."""
    MOVES = "moves"
    """It moves to a pod at a known time, unless a worker has started it by then."""
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
