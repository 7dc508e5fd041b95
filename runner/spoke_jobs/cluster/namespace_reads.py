"""Read what the cluster says of a job, of what the SpokeJobs wait for, and of the namespace as a whole.

This needs `get` on SpokeJobs, on PodTemplates and on the operator's ConfigMap, and `list` on SpokeJobs, on PodTemplates
and on events about image pulls. If something can't be read, the result says so and nothing is raised: the caller then
shows what the ledger knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from itertools import islice
from typing import TypeVar

from pydantic import ValidationError

from spoke_jobs.cluster import kube_environment
from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts
from spoke_jobs.cluster.cluster_view import (
    ClusterView,
    SpokeJobWaits,
    WaitingSpokeJob,
    busy_nodes,
    read_published,
    times,
    unfinished_since,
    waits_of,
)
from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.cluster.namespace_view import NamespaceView, TemplateView, template_view
from spoke_jobs.contract.allowed_types import allows_type
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.names import CONTAINER, STATE_CONFIGMAP, is_object_name
from spoke_jobs.contract.operator_state import Publication
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.model import JobRequest
from spoke_jobs.shared.api_errors import ApiError, ApiUnavailable
from spoke_jobs.shared.object_fields import Body, items, mapping, moment, text

TEMPLATES = 200
"""The most PodTemplates that are read."""
_TIMEOUTS = Timeouts(connect=3.0, read=5.0)

R = TypeVar("R")


def read_namespace_view(namespace: str) -> NamespaceView:
    """Read what this account may read."""
    try:
        with closing(SpokeJobClient.connect(namespace, _TIMEOUTS)) as api:
            return _found(api)
    except (ConfigurationError, ApiError) as error:
        return NamespaceView(namespace, problem=str(error))


def _found(api: SpokeJobClient) -> NamespaceView:
    data, state_problem = _readable(lambda: api.config_map(STATE_CONFIGMAP), None)
    found, templates_problem = _readable(
        lambda: [template_view(body) for body in islice(api.list_objects(Kind.TEMPLATE, {}), TEMPLATES + 1)],
        list[TemplateView](),
    )
    return NamespaceView(
        api.namespace,
        Publication.read(data),
        tuple(sorted(found[:TEMPLATES], key=lambda each: each.name)),
        more_templates=len(found) > TEMPLATES,
        state_problem=state_problem,
        templates_problem=templates_problem,
    )


def _readable(read: Callable[[], R], otherwise: R) -> tuple[R, str]:
    """Return what was read, or why it could not be.

    :raises ApiUnavailable: if any other call would fail, too.
    """
    try:
        return read(), ""
    except ApiUnavailable:
        raise
    except ApiError as error:
        return otherwise, str(error)


LISTED = 5_000
"""The most SpokeJobs that are read."""
_LIST_TIMEOUTS = Timeouts(connect=3.0, read=10.0)


def read_spokejob_waits(namespace: str) -> SpokeJobWaits:
    """Read the SpokeJobs that this account may list."""
    found: list[WaitingSpokeJob] = []
    unfinished: list[datetime] = []
    nodes = Counter[str]()
    read = 0
    try:
        with closing(SpokeJobClient.connect(namespace, _LIST_TIMEOUTS)) as api:
            for page in api.pages():
                found += waits_of(page.items)
                unfinished += unfinished_since(page.items)
                nodes.update(busy_nodes(page.items))
                read += len(page.items)
                if read >= LISTED:
                    break
    except (ConfigurationError, ApiError) as error:
        return SpokeJobWaits(problem=str(error))
    busiest = tuple(sorted(nodes.items(), key=lambda node: (-node[1], node[0])))
    oldest = min(unfinished, default=None)
    return SpokeJobWaits(tuple(found), more=read >= LISTED, oldest_unfinished=oldest, nodes=busiest)


_EVENTS = 500


def read_cluster_view(job: JobRequest, namespace: str, *, around: bool = True) -> ClusterView:
    """Read what this account may read.

    :param namespace: the configured namespace; empty for the pod's own.
    :param around: also read the holder of the queue's lock, the operator's state, and the events about image pulls.
    """
    name, where = name_of(job), kube_environment.namespace(namespace)
    if not where:
        return ClusterView(name, problem="SPOKE_NAMESPACE is not set")
    try:
        with closing(SpokeJobClient.connect(where, _TIMEOUTS)) as api:
            return _job_view(api, job, name, around=around)
    except (ConfigurationError, ApiError) as error:
        return ClusterView(name, where, problem=str(error))


def _job_view(api: SpokeJobClient, job: JobRequest, name: str, *, around: bool) -> ClusterView:
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
    pulls = 0
    if spokejob and spokejob.status.cause == Cause.IMAGE_UNAVAILABLE:
        pulls = sum(times(item) for item in _events(api, spokejob, "Pulling"))
    excluded = spokejob is None and job.submitted_at is None and _is_excluded(api, job)
    return ClusterView(name, api.namespace, spokejob, other, published, pulls, excluded, unreadable=tuple(unreadable))


def read_pulled_at(pod: str, namespace: str) -> datetime | None:
    """Read when the image of a pod's job was pulled, or found on the node; None if no event says it (any more).

    :raises ApiError: if the events can't be read.
    :raises ConfigurationError: if there are no credentials.
    """
    about = f"involvedObject.kind=Pod,involvedObject.name={pod},reason=Pulled"
    with closing(SpokeJobClient.connect(namespace, _TIMEOUTS)) as api:
        found = api.ask(f"/api/v1/namespaces/{namespace}/events", {"fieldSelector": about, "limit": str(_EVENTS)})
    times = (_happened(item) for item in items(found, "items") if _is_about_the_job(item))
    return max((at for at in times if at is not None), default=None)


def _is_about_the_job(event: Body) -> bool:
    return text(mapping(event, "involvedObject"), "fieldPath") == f"spec.containers{{{CONTAINER}}}"


def _happened(event: Body) -> datetime | None:
    return moment(event, "lastTimestamp") or moment(event, "eventTime")


def _is_excluded(api: SpokeJobClient, job: JobRequest) -> bool:
    """Whether the job's PodTemplate is not for jobs of its type. If it can't be read, the answer is no."""
    template = job.options.pod_template
    if not is_object_name(template):
        return False
    try:
        found = api.pod_template(template)
    except ApiError as error:
        if isinstance(error, ApiUnavailable):
            raise
        return False
    return not allows_type(mapping(mapping(found or {}, "metadata"), "annotations"), job.job_type)


def _events(api: SpokeJobClient, spokejob: SpokeJob, reason: str) -> Sequence[Body]:
    """Return the kubelet's events of one reason about the newest pod; none if they can't be read."""
    if not spokejob.status.attempts:
        return ()
    query = {"fieldSelector": f"involvedObject.kind=Pod,reason={reason}", "limit": str(_EVENTS)}
    try:
        found = items(api.ask(f"/api/v1/namespaces/{api.namespace}/events", query), "items")
    except ApiError as error:
        if isinstance(error, ApiUnavailable):
            raise
        return ()
    pods = f"{spokejob.status.attempts[-1].job}-"  # a Job has one pod, whose name the SpokeJob does not have yet
    return [item for item in found if text(mapping(item, "involvedObject"), "name").startswith(pods)]


def _holder(spokejob: SpokeJob) -> str:
    """Return the name of the SpokeJob that holds the lock that this one waits for; empty if it waits for no lock."""
    return spokejob.status.waiting.holder if spokejob.status.waiting else ""
