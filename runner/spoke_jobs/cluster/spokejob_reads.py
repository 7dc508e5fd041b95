"""Read a job's SpokeJob, and what the operator published on its namespace, for the commands that explain.

This needs `get` on SpokeJobs and on the operator's ConfigMap, and `list` on events for the number of image pulls. A
failure to read is reported in the view and raises nothing: what the ledger says is still worth showing.
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
    """Read the cluster, as far as this account may.

    :param namespace: the configured one; empty for the pod's own.
    :param around: whether to read more than its SpokeJob: what it waits for, too.
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
    odd: list[str] = []

    def read(wanted: str) -> SpokeJob | None:
        body = api.get(wanted)
        try:
            return SpokeJob.from_object(body) if body else None
        except ValidationError:
            odd.append(f"SpokeJob {wanted}")
            return None

    spokejob = read(name)
    if not around:
        return ClusterView(name, api.namespace, spokejob, odd=tuple(odd))
    holder = _holder(spokejob) if spokejob else ""
    other = read(holder) if holder else None
    try:
        published = read_published(api.config_map(STATE_CONFIGMAP))
    except ApiError as error:
        if isinstance(error, ApiUnavailable):
            raise
        odd.append(f"ConfigMap {STATE_CONFIGMAP} ({error.reason})")
        published = None
    pulls = _pulls(api, spokejob) if spokejob and spokejob.status.cause == Cause.IMAGE_UNAVAILABLE else 0
    return ClusterView(name, api.namespace, spokejob, other, published, pulls, odd=tuple(odd))


def _pulls(api: SpokeJobClient, spokejob: SpokeJob) -> int:
    """How often the newest pod's image was asked for: only the kubelet's events tell."""
    if not spokejob.status.attempts:
        return 0
    query = {"fieldSelector": "involvedObject.kind=Pod,reason=Pulling", "limit": str(_EVENTS)}
    try:
        items = api.ask(f"/api/v1/namespaces/{api.namespace}/events", query).get("items") or ()
    except ApiError as error:
        if isinstance(error, ApiUnavailable):
            raise
        return 0
    pods = f"{spokejob.status.attempts[-1].job}-"  # which has one pod, whose name the SpokeJob doesn't tell yet
    mine = [item for item in items if str(item["involvedObject"].get("name")).startswith(pods)]
    return sum((item.get("series") or {}).get("count") or item.get("count") or 1 for item in mine)


def _holder(spokejob: SpokeJob) -> str:
    """The SpokeJob that has the lock of its queue; empty where it waits for nothing of the kind."""
    return spokejob.status.waiting.holder if spokejob.status.waiting else ""
