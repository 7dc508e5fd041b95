"""Exit codes of ``spoke-jobs run``, as the operator reads them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How an attempt's process ended. Any other code means that the process died outside the protocol."""

    DONE = 0
    """Success is recorded in the ledger. Nothing else may exit with this code."""
    FAILED = 10
    """The attempt failed; another one may follow, if the budget of the cause's class allows it."""
    FAILED_FOR_GOOD = 11
    """The attempt failed in a way that no further attempt can mend (a payload that doesn't validate, say)."""
    HELD = 12
    """The queue's lock is taken by another job: try again later, uncharged."""
    SUPERSEDED = 13
    """Another process holds the claim, or took it over: this one recorded nothing."""
    INTERRUPTED = 14
    """The process was told to stop (SIGTERM) before the job was done."""
