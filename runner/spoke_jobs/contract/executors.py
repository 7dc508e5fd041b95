"""Who starts the attempts of a job: decided here, once.

The column ``runner`` of a job's row says it. A dispatch derives that value from its runner and the job's lane
(:func:`row_runner`); claims, sync and explanations compare it.
"""

from __future__ import annotations

from enum import StrEnum

from spoke_jobs.contract.causes import Cause

CLUSTER_RUNNER = "kubernetes"
"""The runner whose jobs run in pods of a cluster, or in workers beside them: see :class:`Lane`."""
LANE_RUNNER = "kubernetes-worker"
"""The runner in the row of a job of ``kubernetes`` that is in the lane :attr:`Lane.WORKER`."""
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
NOT_OF_WORKERS = tuple(_EXECUTORS)
"""The runners whose jobs no worker claims."""


def executor_of(runner: str) -> Executor:
    """Return who starts the attempts of the jobs whose rows have this runner."""
    return _EXECUTORS.get(runner, Executor.WORKERS)


class Lane(StrEnum):
    """Where a job of the runner ``kubernetes`` runs."""

    POD = "pod"
    """Each attempt runs in a pod of its own."""
    STANDBY = "standby"
    """Like :attr:`POD`, but an attempt takes a standby pod that is free: a pod that has started before."""
    WORKER = "worker"
    """``spoke-jobs worker --lane worker`` runs it. It has neither a SpokeJob nor a pod."""


LANES = tuple(str(lane) for lane in Lane)
_ROW_RUNNERS = {Lane.POD: CLUSTER_RUNNER, Lane.STANDBY: CLUSTER_RUNNER, Lane.WORKER: LANE_RUNNER}
LANES_OF_RUNNERS = {CLUSTER_RUNNER: Lane.POD, LANE_RUNNER: Lane.WORKER}
"""The lanes by the runner of a row. Which pod an attempt gets is the operator's decision, so a row does not say it."""
_NEED_A_POD = frozenset({Cause.OUT_OF_MEMORY, Cause.KILLED, Cause.WORKER_LOST, Cause.TOO_LONG_FOR_WORKER})
"""The causes after which a job leaves its worker. The job has taken too much of it, or may have taken it down."""


def row_runner(runner: str, lane: str) -> str:
    """Return the runner of a job's row.

    :param runner: the runner that dispatches the job, or that of the row of a job that another one follows. All
        runners but ``kubernetes`` have no lanes.
    :param lane: the job's lane.
    """
    return _ROW_RUNNERS[Lane(lane)] if runner in LANES_OF_RUNNERS else runner


def lane_of(runner: str) -> Lane | None:
    """Return the lane of the jobs whose rows have this runner; None if the runner has no lanes.

    Jobs of the lane :attr:`Lane.STANDBY` run in pods, so their rows are those of the lane :attr:`Lane.POD`.
    """
    return LANES_OF_RUNNERS.get(runner)


def lane_in(runner: str, lane: str) -> Lane | None:
    """Return the lane of a job's next attempt; None if its runner has no lanes.

    :param runner: the runner of its row.
    :param lane: the lane among its options.
    """
    found = lane_of(runner)
    return Lane.STANDBY if found is Lane.POD and lane == Lane.STANDBY else found


def runner_after(runner: str, cause: str) -> str:
    """Return the runner of a job's row once an attempt has failed and another one follows.

    A job whose attempt in a worker of ``kubernetes`` was killed, or took too much memory or time, moves to a pod.

    :param runner: the runner of the row during the attempt.
    :param cause: the attempt's cause.
    """
    return CLUSTER_RUNNER if runner == LANE_RUNNER and needs_pod(cause) else runner


def needs_pod(cause: str) -> bool:
    """Whether a job leaves the workers of ``kubernetes`` after an attempt with this cause, if another one follows."""
    return cause in _NEED_A_POD


def moved_to_pod(runner: str, lane: str) -> bool:
    """Whether a job was dispatched for a worker and has moved to a pod.

    :param runner: the runner of its row.
    :param lane: the lane among its options.
    """
    return runner == CLUSTER_RUNNER and lane == Lane.WORKER
