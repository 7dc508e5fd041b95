"""Read the API server's objects into the views of :mod:`.api_objects`.

Reading is lenient: a field that is missing, or that a newer Kubernetes has changed, reads as absent, because one
malformed object must not stop the operator from serving the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import ValidationError

from spoke_jobs.contract.names import CONTAINER, LABEL_ATTEMPT, LABEL_SPOKEJOB, LABEL_TEMPLATE
from spoke_jobs.contract.spokejob import SpokeJob

from .api_objects import (
    ANNOTATION_TEMPLATE,
    KUEUE_PREFIX,
    LABEL_OWNER,
    Body,
    FailedCreate,
    FailedMount,
    Job,
    Key,
    Meta,
    Pod,
    PodTemplate,
    Running,
    Terminated,
    Unreadable,
    Waiting,
    digits,
)


def read_spokejob(body: Body) -> SpokeJob | Unreadable:
    """A SpokeJob, or why it can't be read."""
    try:
        return SpokeJob.from_object(dict(body))
    except ValidationError as error:
        metadata = _mapping(body, "metadata")
        fields = sorted({".".join(map(str, item["loc"])) for item in error.errors(include_input=False)})
        return Unreadable(
            key=Key(_text(metadata, "namespace"), _text(metadata, "name")),
            uid=_text(metadata, "uid"),
            resource_version=_text(metadata, "resourceVersion"),
            generation=_number(metadata, "generation"),
            problem=", ".join(fields),
            settled=_text(_mapping(body, "status"), "outcome") in ("Succeeded", "Failed"),
        )


def read_job(body: Body) -> Job:
    """A Job."""
    meta = read_meta(body)
    labels = _mapping(_mapping(body, "metadata"), "labels")
    conditions = _true_conditions(body)
    suspended = _mapping(body, "spec").get("suspend") is True
    resumed = next((item for item in _items(_mapping(body, "status"), "conditions")
                    if item.get("type") == "Suspended" and item.get("status") == "False"), {})  # fmt: skip
    failure = conditions.get("Failed") or conditions.get("FailureTarget") or {}
    return Job(
        meta=meta,
        spokejob=Key(meta.key.namespace, _text(labels, LABEL_SPOKEJOB)),
        owner=next(
            (_text(owner, "uid") for owner in _items(_mapping(body, "metadata"), "ownerReferences")
             if owner.get("controller") is True), "",
        ),
        attempt=digits(_text(labels, LABEL_ATTEMPT)),
        template=_text(_mapping(_mapping(body, "metadata"), "annotations"), ANNOTATION_TEMPLATE),
        complete="Complete" in conditions,
        failed="Failed" in conditions,
        failing="FailureTarget" in conditions,
        failure_reason=_text(failure, "reason"),
        suspended=suspended,
        released_at=_time(resumed, "lastTransitionTime"),
        resuming="Suspended" in conditions and not suspended,
    )  # fmt: skip


def read_pod(body: Body) -> Pod:
    """A pod."""
    meta = read_meta(body)
    labels = _mapping(_mapping(body, "metadata"), "labels")
    status = _mapping(body, "status")
    conditions = _true_conditions(body)
    disrupted = conditions.get("DisruptionTarget") or {}
    unscheduled = next(
        (item for item in _items(status, "conditions")
         if item.get("type") == "PodScheduled" and item.get("status") == "False"), {},
    )  # fmt: skip
    ours = (item for item in _items(status, "containerStatuses") if item.get("name") == CONTAINER)
    inits = (_container_state(item) for item in _items(status, "initContainerStatuses"))
    return Pod(
        meta=meta,
        spokejob=Key(meta.key.namespace, _text(labels, LABEL_SPOKEJOB)),
        owner=_text(labels, LABEL_OWNER),
        attempt=digits(_text(labels, LABEL_ATTEMPT)),
        node=_text(_mapping(body, "spec"), "nodeName"),
        phase=_text(status, "phase"),
        reason=_text(status, "reason"),
        disruption=_text(disrupted, "reason"),
        unschedulable=_text(unscheduled, "message") if unscheduled.get("reason") == "Unschedulable" else "",
        container=next((_container_state(item) for item in ours), None),
        init_problem=next((state for state in inits if isinstance(state, Waiting) and state.reason), None),
        mounted="PodReadyToStartContainers" in conditions,
    )


def read_template(body: Body) -> PodTemplate:
    """A PodTemplate."""
    metadata = _mapping(body, "metadata")
    labels = {**_mapping(_mapping(_mapping(body, "template"), "metadata"), "labels"), **_mapping(metadata, "labels")}
    return PodTemplate(
        meta=read_meta(body),
        generation=_number(metadata, "generation"),
        allowed=_text(_mapping(metadata, "labels"), LABEL_TEMPLATE) == "true",
        kueue={name: str(value) for name, value in labels.items() if name.startswith(KUEUE_PREFIX)},
        template=_mapping(body, "template"),
    )


def read_event(body: Body) -> FailedCreate | FailedMount | None:
    """A FailedCreate Event of a Job, or a FailedMount one of a pod; None for any other."""
    involved = _mapping(body, "involvedObject")
    key = Key(_text(involved, "namespace"), _text(involved, "name"))
    uid, message = _text(involved, "uid"), _text(body, "message")
    match body.get("reason"), involved.get("kind"):
        case "FailedCreate", "Job":
            return FailedCreate(meta=read_meta(body), job=key, job_uid=uid, message=message)
        case "FailedMount", "Pod":
            return FailedMount(meta=read_meta(body), pod=key, pod_uid=uid, message=message)
    return None


def read_meta(body: Body) -> Meta:
    """The metadata that every object has."""
    metadata = _mapping(body, "metadata")
    return Meta(
        key=Key(_text(metadata, "namespace"), _text(metadata, "name")),
        uid=_text(metadata, "uid"),
        resource_version=digits(_text(metadata, "resourceVersion")),
        created_at=_time(metadata, "creationTimestamp"),
        deletion_at=_time(metadata, "deletionTimestamp"),
        deletion_grace_seconds=_number(metadata, "deletionGracePeriodSeconds"),
    )


def _container_state(status: Body) -> Waiting | Running | Terminated | None:
    state = _mapping(status, "state")
    if terminated := _mapping(state, "terminated"):
        return Terminated(
            exit_code=_number(terminated, "exitCode"),
            reason=_text(terminated, "reason"),
            message=_text(terminated, "message"),
        )
    if "running" in state:
        return Running(since=_time(_mapping(state, "running"), "startedAt"))
    if waiting := _mapping(state, "waiting"):
        return Waiting(reason=_text(waiting, "reason"), message=_text(waiting, "message"))
    return None


def _true_conditions(body: Body) -> dict[str, Body]:
    conditions = _items(_mapping(body, "status"), "conditions")
    return {_text(item, "type"): item for item in conditions if item.get("status") == "True"}


def _mapping(body: Body, name: str) -> Body:
    value = body.get(name)
    return value if isinstance(value, Mapping) else {}


def _items(body: Body, name: str) -> list[Body]:
    value = body.get(name)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def _number(body: Body, name: str) -> int:
    value = body.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _time(body: Body, name: str) -> datetime | None:
    try:
        value = datetime.fromisoformat(_text(body, name))
    except ValueError:
        return None
    return value if value.tzinfo else None
