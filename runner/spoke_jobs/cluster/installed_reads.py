"""Read SpokeJobs where the Kubernetes client is installed. Elsewhere, the answers say so."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from spoke_jobs.contract.executors import Executor

if TYPE_CHECKING:
    from spoke_jobs.cluster.cluster_view import ClusterView, SpokeJobWaits
    from spoke_jobs.model import JobRequest


def waits_in(namespace: str) -> SpokeJobWaits:
    """Read what the SpokeJobs of the namespace wait for."""
    from spoke_jobs.cluster.cluster_view import SpokeJobWaits

    if importlib.util.find_spec("kubernetes") is None:
        return SpokeJobWaits(problem="the Kubernetes client is not installed")
    from spoke_jobs.cluster.spokejob_waits import read_spokejob_waits

    return read_spokejob_waits(namespace)


def view_of(job: JobRequest, namespace: str, *, around: bool = True) -> ClusterView | None:
    """Read a job's SpokeJob. None for a job of another runner, or if the Kubernetes client is not installed.

    :param around: also read the holder of the queue's lock, the operator's state, and how often the image was pulled.
    """
    if job.executor is not Executor.CLUSTER or importlib.util.find_spec("kubernetes") is None:
        return None
    from spoke_jobs.cluster.spokejob_reads import read_cluster_view

    return read_cluster_view(job, namespace, around=around)
