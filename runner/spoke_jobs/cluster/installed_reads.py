"""Read SpokeJobs where a namespace is known and the Kubernetes client is installed. Elsewhere, the answers say so.

The client is imported only if there is something to read: its import takes longer than a page waits.
"""

from __future__ import annotations

import importlib.util
from datetime import datetime
from typing import TYPE_CHECKING

from spoke_jobs.cluster import kube_environment
from spoke_jobs.contract.executors import Executor

if TYPE_CHECKING:
    from spoke_jobs.cluster.cluster_view import ClusterView, PodTail, SpokeJobWaits
    from spoke_jobs.cluster.namespace_view import NamespaceView
    from spoke_jobs.model import JobRequest

_NO_NAMESPACE = "SPOKE_NAMESPACE is not set"
NOT_INSTALLED = "the Kubernetes client is not installed"


def _reachable(namespace: str) -> tuple[str, str]:
    """Return the namespace, and why nothing can be read there; empty if something can.

    :param namespace: the configured namespace; empty for the pod's own.
    """
    if not (where := kube_environment.namespace(namespace)):
        return "", _NO_NAMESPACE
    return where, "" if importlib.util.find_spec("kubernetes") is not None else NOT_INSTALLED


def waits_in(namespace: str) -> SpokeJobWaits:
    """Read what the SpokeJobs of the namespace wait for.

    :param namespace: the configured namespace; empty for the pod's own.
    """
    from spoke_jobs.cluster.cluster_view import SpokeJobWaits

    where, problem = _reachable(namespace)
    if problem:
        return SpokeJobWaits(problem=problem)
    from spoke_jobs.cluster.namespace_reads import read_spokejob_waits

    return read_spokejob_waits(where)


def namespace_in(namespace: str) -> NamespaceView:
    """Read the operator's published state and the PodTemplates of the namespace, likewise."""
    from spoke_jobs.cluster.namespace_view import NamespaceView

    where, problem = _reachable(namespace)
    if problem:
        return NamespaceView(where, problem=problem, is_configured=bool(where))
    from spoke_jobs.cluster.namespace_reads import read_namespace_view

    return read_namespace_view(where)


def pulled_in(pod: str, namespace: str) -> datetime | None:
    """Read when the image of a pod's job was pulled; None if nobody says it.

    :raises ApiError: if the events can't be read.
    :raises ConfigurationError: if there are no credentials.
    """
    where, problem = _reachable(namespace)
    if problem:
        return None
    from spoke_jobs.cluster.namespace_reads import read_pulled_at

    return read_pulled_at(pod, where)


def tail_in(pod: str, namespace: str) -> PodTail:
    """Read what a pod's job has printed last."""
    from spoke_jobs.cluster.cluster_view import PodTail

    where, problem = _reachable(namespace)
    if problem:
        return PodTail(problem=problem)
    from spoke_jobs.cluster.pod_logs import read_pod_tail

    return read_pod_tail(pod, where)


def view_of(job: JobRequest, namespace: str, *, around: bool = True) -> ClusterView | None:
    """Read a job's SpokeJob. None for a job of another runner, or if the Kubernetes client is not installed.

    :param around: also read the holder of the queue's lock, the operator's state, and how often the image was pulled.
    """
    if job.executor is not Executor.CLUSTER or importlib.util.find_spec("kubernetes") is None:
        return None
    from spoke_jobs.cluster.namespace_reads import read_cluster_view

    return read_cluster_view(job, namespace, around=around)
