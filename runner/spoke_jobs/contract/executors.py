"""Who starts the attempts of a runner's jobs: decided here, once."""

from __future__ import annotations

from enum import StrEnum

CLUSTER_RUNNER = "kubernetes"
"""The runner whose jobs run in pods of a cluster."""
REFERENCE = "reference"
"""The runner in the row of a job that other code has marked as assigned. No process of this library claims such a job.
The triggers of migration 0005 set it."""


class Executor(StrEnum):
    """Who starts the attempts of a job."""

    WORKERS = "workers"
    """A process that claims jobs of the runner: a worker, or the process that dispatched the job."""
    CLUSTER = "cluster"
    """The operator, in pods. It obeys limits of its own, and decides about the next attempt."""
    OTHERS = "others"
    """Other code, which has marked the job as assigned."""


_EXECUTORS = {CLUSTER_RUNNER: Executor.CLUSTER, REFERENCE: Executor.OTHERS}


def executor_of(runner: str) -> Executor:
    """Return who starts the attempts of a runner's jobs."""
    return _EXECUTORS.get(runner, Executor.WORKERS)
