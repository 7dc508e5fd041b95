"""Read a job's SpokeJob and the operator's published state, for the commands that explain.

This needs `get` on SpokeJobs and on the operator's ConfigMap, and `list` on events for the number of image pulls. If
something can't be read, the view says so and nothing is raised: the command then shows what the ledger knows.
"""

from __future__ import annotations

from pydantic import ValidationError

from spoke_jobs.cluster import kube_environment
from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.cluster.cluster_view import ClusterView, read_published
from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.contract.api_errors import ApiError, ApiUnavailable
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.names import STATE_CONFIGMAP
from spoke_jobs.contract.spokejob import SpokeJob
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.model import JobRequest

_EVENTS = 500
_TIMEOUTS = Timeouts(connect=3.0, read=5.0)


def read_cluster_view(job: JobRequest, namespace: str, *, around: bool = True) -> ClusterView:
    """Read what this account may read.

    :param namespace: the configured one; empty for the pod's own.
    :param around: also read the holder of its queue's lock, the operator's state, and the number of image pulls.
    """
    name, where = name_of(job), kube_environment.namespace(namespace)
    if not where:
        return ClusterView(name, problem="SPOKE_NAMESPACE is not set")
    try:
        api = SpokeJobClient.connect(where, _TIMEOUTS)
    except ConfigurationError as error:
        return ClusterView(name, where, problem=str(error))
    try:
        return _found(api, name, around=around)
    except ApiError as error:
        return ClusterView(name, where, problem=str(error))
    finally:
        api.close()


def _found(api: SpokeJobClient, name: str, *, around: bool) -> ClusterView:
    unreadable: list[str] = []

    def read(wanted: str) -> SpokeJob | None:
        body = api.get(wanted)
        try:
            return SpokeJob.from_object(body) if body else None
        except ValidationError:
            unreadable.append(f"SpokeJob {wanted}")
            return None

    spokejob = read(name)
    if not around:
        return ClusterView(name, api.namespace, spokejob, unreadable=tuple(unreadable))
    holder = _holder(spokejob) if spokejob else ""
    other = read(holder) if holder else None
    try:
        published = read_published(api.config_map(STATE_CONFIGMAP))
    except ApiError as error:
        if isinstance(error, ApiUnavailable):
            raise
        unreadable.append(f"ConfigMap {STATE_CONFIGMAP} ({error.reason})")
        published = None
    pulls = _pulls(api, spokejob) if spokejob and spokejob.status.cause == Cause.IMAGE_UNAVAILABLE else 0
    return ClusterView(name, api.namespace, spokejob, other, published, pulls, unreadable=tuple(unreadable))


def _pulls(api: SpokeJobClient, spokejob: SpokeJob) -> int:
    """Return how often the newest pod's image was requested, from the kubelet's events."""
    if not spokejob.status.attempts:
        return 0
    query = {"fieldSelector": "involvedObject.kind=Pod,reason=Pulling", "limit": str(_EVENTS)}
    try:
        items = api.ask(f"/api/v1/namespaces/{api.namespace}/events", query).get("items") or ()
    except ApiError as error:
        if isinstance(error, ApiUnavailable):
            raise
        return 0
    pods = f"{spokejob.status.attempts[-1].job}-"  # a Job has one pod, whose name the SpokeJob does not have yet
    mine = [item for item in items if str(item["involvedObject"].get("name")).startswith(pods)]
    return sum((item.get("series") or {}).get("count") or item.get("count") or 1 for item in mine)


def _holder(spokejob: SpokeJob) -> str:
    """Return the name of the SpokeJob that holds its queue's lock; empty if it does not wait for the lock."""
    return spokejob.status.waiting.holder if spokejob.status.waiting else ""
