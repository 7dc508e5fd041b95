"""The accounts of ours that have rights in the cluster. The command line names them without knowing the rights."""

from __future__ import annotations

from enum import StrEnum


class Account(StrEnum):
    """An account that has rights in the cluster. Its value is a `Role` of the table of kinds."""

    RUNNER = "runner"
    """A process that dispatches jobs."""
    SYNC = "sync"
    """`spoke-jobs sync`."""
    READER = "reader"
    """A person who uses `why`, `show` and `logs`; also the dashboard."""
