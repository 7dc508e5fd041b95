"""Read the API server's objects into the views of :mod:`.api_objects`.

Reading is lenient. A field that is missing or has an unexpected type reads as empty, because one malformed object must
not stop the operator from serving the others.
"""

from __future__ import annotations

from pydantic import ValidationError

from spoke_jobs.contract.names import CONTAINER, LABEL_ATTEMPT, LABEL_SPOKEJOB, LABEL_TEMPLATE
from spoke_jobs.contract.object_fields import Body, digits, items, mapping, moment, number, text
from spoke_jobs.contract.spokejob import SpokeJob

from .api_objects import (
    ANNOTATION_TEMPLATE,
    KUEUE_PREFIX,
    LABEL_OWNER,
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
)


def read_spokejob(body: Body) -> SpokeJob | Unreadable:
    """Read a SpokeJob; return :class:`Unreadable` if its spec is invalid."""
    try:
        return SpokeJob.from_object(dict(body))
    except ValidationError as error:
        metadata = mapping(body, "metadata")
        fields = sorted({".".join(map(str, item["loc"])) for item in error.errors(include_input=False)})
        return Unreadable(
            key=Key(text(metadata, "namespace"), text(metadata, "name")),
            uid=text(metadata, "uid"),
            resource_version=text(metadata, "resourceVersion"),
            generation=number(metadata, "generation"),
            problem=", ".join(fields),
            settled=text(mapping(body, "status"), "outcome") in ("Succeeded", "Failed"),
        )


def read_job(body: Body) -> Job:
    """Read a Job."""
    meta = read_meta(body)
    labels = mapping(mapping(body, "metadata"), "labels")
    conditions = _true_conditions(body)
    suspended = mapping(body, "spec").get("suspend") is True
    resumed = next((item for item in items(mapping(body, "status"), "conditions")
                    if item.get("type") == "Suspended" and item.get("status") == "False"), {})  # fmt: skip
    failure = conditions.get("Failed") or conditions.get("FailureTarget") or {}
    return Job(
        meta=meta,
        spokejob=Key(meta.key.namespace, text(labels, LABEL_SPOKEJOB)),
        owner=next(
            (text(owner, "uid") for owner in items(mapping(body, "metadata"), "ownerReferences")
             if owner.get("controller") is True), "",
        ),
        attempt=digits(text(labels, LABEL_ATTEMPT)),
        template=text(mapping(mapping(body, "metadata"), "annotations"), ANNOTATION_TEMPLATE),
        complete="Complete" in conditions,
        failed="Failed" in conditions,
        failing="FailureTarget" in conditions,
        failure_reason=text(failure, "reason"),
        suspended=suspended,
        released_at=moment(resumed, "lastTransitionTime"),
        resuming="Suspended" in conditions and not suspended,
    )  # fmt: skip


def read_pod(body: Body) -> Pod:
    """Read a pod."""
    meta = read_meta(body)
    labels = mapping(mapping(body, "metadata"), "labels")
    status = mapping(body, "status")
    conditions = _true_conditions(body)
    disrupted = conditions.get("DisruptionTarget") or {}
    unscheduled = next(
        (item for item in items(status, "conditions")
         if item.get("type") == "PodScheduled" and item.get("status") == "False"), {},
    )  # fmt: skip
    ours = (item for item in items(status, "containerStatuses") if item.get("name") == CONTAINER)
    inits = (_container_state(item) for item in items(status, "initContainerStatuses"))
    return Pod(
        meta=meta,
        spokejob=Key(meta.key.namespace, text(labels, LABEL_SPOKEJOB)),
        owner=text(labels, LABEL_OWNER),
        attempt=digits(text(labels, LABEL_ATTEMPT)),
        node=text(mapping(body, "spec"), "nodeName"),
        phase=text(status, "phase"),
        reason=text(status, "reason"),
        disruption=text(disrupted, "reason"),
        unschedulable=text(unscheduled, "message") if unscheduled.get("reason") == "Unschedulable" else "",
        container=next((_container_state(item) for item in ours), None),
        init_problem=next((state for state in inits if isinstance(state, Waiting) and state.reason), None),
        mounted="PodReadyToStartContainers" in conditions,
    )


def read_template(body: Body) -> PodTemplate:
    """Read a PodTemplate."""
    metadata = mapping(body, "metadata")
    labels = {**mapping(mapping(mapping(body, "template"), "metadata"), "labels"), **mapping(metadata, "labels")}
    return PodTemplate(
        meta=read_meta(body),
        generation=number(metadata, "generation"),
        allowed=text(mapping(metadata, "labels"), LABEL_TEMPLATE) == "true",
        kueue={name: str(value) for name, value in labels.items() if name.startswith(KUEUE_PREFIX)},
        template=mapping(body, "template"),
    )


def read_event(body: Body) -> FailedCreate | FailedMount | None:
    """Read a Job's FailedCreate Event or a pod's FailedMount Event; None for any other."""
    involved = mapping(body, "involvedObject")
    key = Key(text(involved, "namespace"), text(involved, "name"))
    uid, message = text(involved, "uid"), text(body, "message")
    match body.get("reason"), involved.get("kind"):
        case "FailedCreate", "Job":
            return FailedCreate(meta=read_meta(body), job=key, job_uid=uid, message=message)
        case "FailedMount", "Pod":
            return FailedMount(meta=read_meta(body), pod=key, pod_uid=uid, message=message)
    return None


def read_meta(body: Body) -> Meta:
    """Read the metadata that every object has."""
    metadata = mapping(body, "metadata")
    return Meta(
        key=Key(text(metadata, "namespace"), text(metadata, "name")),
        uid=text(metadata, "uid"),
        resource_version=digits(text(metadata, "resourceVersion")),
        created_at=moment(metadata, "creationTimestamp"),
        deletion_at=moment(metadata, "deletionTimestamp"),
        deletion_grace_seconds=number(metadata, "deletionGracePeriodSeconds"),
    )


def _container_state(status: Body) -> Waiting | Running | Terminated | None:
    state = mapping(status, "state")
    if terminated := mapping(state, "terminated"):
        return Terminated(
            exit_code=number(terminated, "exitCode"),
            reason=text(terminated, "reason"),
            message=text(terminated, "message"),
        )
    if "running" in state:
        return Running(since=moment(mapping(state, "running"), "startedAt"))
    if waiting := mapping(state, "waiting"):
        return Waiting(reason=text(waiting, "reason"), message=text(waiting, "message"))
    return None


def _true_conditions(body: Body) -> dict[str, Body]:
    conditions = items(mapping(body, "status"), "conditions")
    return {text(item, "type"): item for item in conditions if item.get("status") == "True"}
