"""Read the API server's objects into the views of :mod:`.api_objects`.

Reading is lenient. A field that is missing or has an unexpected type reads as empty, because one malformed object must
not stop the operator from serving the others. Texts and lists are cut, and what is too large is not kept: whoever may
create such objects in one namespace must not use up the operator's memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime

from pydantic import ValidationError

from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.names import LABEL_ATTEMPT, LABEL_MANAGED_BY, LABEL_SPOKEJOB, LABEL_TEMPLATE, MANAGER_OPERATOR
from spoke_jobs.contract.standby import ANNOTATION_DIGEST, ANNOTATION_VERIFIER, LABEL_STANDBY
from spoke_jobs.shared.object_fields import Body, digits, mapping, moment, number
from spoke_jobs.shared.object_fields import items as all_items
from spoke_jobs.shared.object_fields import text as whole_text

from .api_objects import (
    ANNOTATION_TEMPLATE,
    ANNOTATION_TEMPLATE_NAME,
    ANNOTATION_TIMEOUT,
    LABEL_OWNER,
    Container,
    ContainerKind,
    Job,
    Key,
    Meta,
    Pod,
    PodTemplate,
    Running,
    StandbyMark,
    Terminated,
    Unreadable,
    Waiting,
    WarningEvent,
)

MOUNT_WARNINGS = frozenset({"FailedMount", "FailedMapVolume", "FailedAttachVolume"})
SANDBOX_WARNINGS = frozenset({"FailedCreatePodSandBox", "NetworkNotReady", "FailedPrepareDynamicResources"})
PULL_SECRET_WARNING = "FailedToRetrieveImagePullSecret"  # noqa: S105 (a reason)
"""The Event about a pull Secret that the kubelet could not read. It then pulls without it, and may succeed."""
_PROBE_WARNING = "Unhealthy"
_STARTUP_PROBE = "Startup probe"
"""The start of an Event's message about a startup probe. Those about other probes are about a container that has
started; they may come every few seconds while the job runs."""
SIDECAR_WARNINGS = frozenset({_PROBE_WARNING, "FailedPostStartHook"})
"""The Events about a sidecar that does not start. Of other containers they are not read: the job waits for none."""
POD_WARNINGS = MOUNT_WARNINGS | SANDBOX_WARNINGS | SIDECAR_WARNINGS | {PULL_SECRET_WARNING}
"""The Events about problems that the pod does not show: its status only says that its containers are being created,
that a sidecar runs, or that the registry refuses the image."""
_INIT_CONTAINER = re.compile(r"spec\.initContainers\{(.+)\}")
_NO_NODE = ("Unschedulable", "SchedulerError")
_MESSAGE_LIMIT = 500
MOST_CHARACTERS = 8_192
"""The most characters that are read of a field. A termination message has at most 4,096 bytes."""
MOST_OF_AN_EVENT = 1_024
"""The most characters that are read of a field of an Event. Kubernetes' components cut their messages there. Others may
create Events of a megabyte."""
MOST_ITEMS = 200
"""The most items that are read of a list, such as the containers of a pod."""
MOST_OF_A_TEMPLATE = 100_000
"""The most bytes that a PodTemplate may have, as JSON. Jobs can't be made from a larger one."""
ONE_POD: Mapping[str, int] = {
    "completions": 1,
    "parallelism": 1,
    "backoffLimit": 0,  # a second pod of the same Job would be an uncounted attempt
}
"""The fields of a Job's spec by which it starts exactly one pod."""


def text(body: Body, name: str) -> str:
    """Return the string in a field, cut; empty if the field holds none."""
    return whole_text(body, name)[:MOST_CHARACTERS]


def items(body: Body, name: str) -> list[Body]:
    """Return the first mappings in a field's list; empty if the field holds no list."""
    return all_items(body, name)[:MOST_ITEMS]


def read_spokejob(body: Body) -> SpokeJob | Unreadable:
    """Read a SpokeJob; return :class:`Unreadable` if its spec is invalid."""
    try:
        return SpokeJob.from_object(dict(body))
    except ValidationError as error:
        metadata = mapping(body, "metadata")
        return Unreadable(
            key=Key(text(metadata, "namespace"), text(metadata, "name")),
            uid=text(metadata, "uid"),
            resource_version=text(metadata, "resourceVersion"),
            generation=number(metadata, "generation"),
            problem=names_of_fields(error),
            settled=text(mapping(body, "status"), "outcome") in ("Succeeded", "Failed"),
        )


def read_job(body: Body) -> Job:
    """Read a Job."""
    meta = read_meta(body)
    labels = mapping(mapping(body, "metadata"), "labels")
    conditions = _true_conditions(body)
    spec = mapping(body, "spec")
    suspended = spec.get("suspend") is True
    resumed = next((item for item in items(mapping(body, "status"), "conditions")
                    if item.get("type") == "Suspended" and item.get("status") == "False"), {})  # fmt: skip
    failure = conditions.get("Failed") or conditions.get("FailureTarget") or {}
    return Job(
        meta=meta,
        spokejob=Key(meta.key.namespace, text(labels, LABEL_SPOKEJOB)),
        owner=_controller(body),
        attempt=digits(text(labels, LABEL_ATTEMPT)),
        template=text(mapping(mapping(body, "metadata"), "annotations"), ANNOTATION_TEMPLATE),
        timeout_seconds=digits(text(mapping(mapping(body, "metadata"), "annotations"), ANNOTATION_TIMEOUT)) or None,
        complete="Complete" in conditions,
        failed="Failed" in conditions,
        failing="FailureTarget" in conditions,
        failure_reason=text(failure, "reason"),
        failure_message=text(failure, "message"),
        suspended=suspended,
        released_at=moment(resumed, "lastTransitionTime"),
        resuming="Suspended" in conditions and not suspended,
        starts_one_pod=all(spec.get(name, value) == value for name, value in ONE_POD.items()),
        standby=_standby_mark(labels, mapping(mapping(body, "metadata"), "annotations")),
    )  # fmt: skip


def _controller(body: Body) -> str:
    """Return the uid of the owner that controls the object; empty if there is none."""
    owners = items(mapping(body, "metadata"), "ownerReferences")
    return next((text(owner, "uid") for owner in owners if owner.get("controller") is True), "")


def _is_standby(labels: Body) -> bool:
    return text(labels, LABEL_STANDBY) == "true" and text(labels, LABEL_MANAGED_BY) == MANAGER_OPERATOR


def _standby_mark(labels: Body, annotations: Body) -> StandbyMark | None:
    if not _is_standby(labels):
        return None
    names = (ANNOTATION_TEMPLATE_NAME, ANNOTATION_DIGEST, ANNOTATION_VERIFIER)
    return StandbyMark(*(text(annotations, name) for name in names))


def read_pod(body: Body) -> Pod:
    """Read a pod."""
    meta = read_meta(body)
    labels = mapping(mapping(body, "metadata"), "labels")
    status = mapping(body, "status")
    conditions = _true_conditions(body)
    disrupted = conditions.get("DisruptionTarget") or {}
    spec = mapping(body, "spec")
    unscheduled = next(
        (item for item in items(status, "conditions")
         if item.get("type") == "PodScheduled" and item.get("status") == "False"), {},
    )  # fmt: skip
    return Pod(
        meta=meta,
        spokejob=Key(meta.key.namespace, text(labels, LABEL_SPOKEJOB)),
        owner=text(labels, LABEL_OWNER),
        attempt=digits(text(labels, LABEL_ATTEMPT)),
        node=text(spec, "nodeName"),
        phase=text(status, "phase"),
        reason=text(status, "reason"),
        disruption=text(disrupted, "reason"),
        unschedulable=text(unscheduled, "message") if unscheduled.get("reason") in _NO_NODE else "",
        containers=tuple(_containers(spec, status)),
        mounted="PodReadyToStartContainers" in conditions,
        scheduled_at=moment(conditions.get("PodScheduled") or {}, "lastTransitionTime"),
        node_silent="ContainersReady" in conditions
        and "Ready" not in conditions
        and not items(mapping(body, "spec"), "readinessGates"),
        message=(text(status, "message") or text(disrupted, "message"))[:_MESSAGE_LIMIT],
        gates=tuple(text(item, "name") for item in items(spec, "schedulingGates")),
        job=_controller(body) if _is_standby(labels) else "",
        ip=text(status, "podIP") if _is_standby(labels) else "",
    )


def _containers(spec: Body, status: Body) -> Iterator[Container]:
    for specified, reported, kind in (
        ("initContainers", "initContainerStatuses", ContainerKind.INIT),
        ("containers", "containerStatuses", ContainerKind.MAIN),
        ("ephemeralContainers", "ephemeralContainerStatuses", ContainerKind.EPHEMERAL),
    ):
        known = {text(item, "name"): item for item in items(spec, specified)}
        for item in items(status, reported):
            name = text(item, "name")
            given = known.get(name, {})
            restarts_always = kind is ContainerKind.INIT and given.get("restartPolicy") == "Always"
            last = _container_state(item, "lastState")
            yield Container(
                name=name,
                kind=ContainerKind.SIDECAR if restarts_always else kind,
                image=text(given, "image") or text(item, "image"),
                state=_container_state(item, "state"),
                started=item.get("started") is not False,
                last_end=last if isinstance(last, Terminated) else None,
                memory_limit=text(mapping(mapping(given, "resources"), "limits"), "memory"),
                memory_request=text(mapping(mapping(given, "resources"), "requests"), "memory"),
            )


def read_template(body: Body) -> PodTemplate:
    """Read a PodTemplate."""
    metadata = mapping(body, "metadata")
    labels, annotations = mapping(metadata, "labels"), mapping(metadata, "annotations")
    template = mapping(body, "template")
    allowed = text(labels, LABEL_TEMPLATE) == "true"
    size = len(json.dumps([labels, annotations, template], default=dict)) if allowed else 0
    kept = allowed and size <= MOST_OF_A_TEMPLATE
    return PodTemplate(
        meta=read_meta(body),
        generation=number(metadata, "generation"),
        allowed=allowed,
        labels={name: str(value) for name, value in labels.items()} if kept else {},
        annotations={name: str(value) for name, value in annotations.items()} if kept else {},
        template=template if kept else {},
        problem="" if kept or not allowed else f"it has {size} bytes; the most is {MOST_OF_A_TEMPLATE}",
    )


def read_event(body: Body) -> WarningEvent | None:
    """Read a Job's FailedCreate Event, or one of a pod's :data:`POD_WARNINGS`; None for any other Event."""
    involved = mapping(body, "involvedObject")
    namespace, name, uid = (text(involved, field)[:MOST_OF_AN_EVENT] for field in ("namespace", "name", "uid"))
    key, message = Key(namespace, name), text(body, "message")[:MOST_OF_AN_EVENT]
    match body.get("reason"), involved.get("kind"):
        case "FailedCreate", "Job":
            return WarningEvent(read_meta(body), "Job", key, uid, "FailedCreate", message)
        case str(reason), "Pod" if reason in POD_WARNINGS:
            named = _INIT_CONTAINER.fullmatch(text(involved, "fieldPath")[:MOST_OF_AN_EVENT])
            warning = WarningEvent(
                read_meta(body), "Pod", key, uid, reason, message, container=named[1] if named else ""
            )
            return warning if _is_about_a_start(warning) else None
    return None


def _is_about_a_start(warning: WarningEvent) -> bool:
    if warning.reason == _PROBE_WARNING and not warning.message.startswith(_STARTUP_PROBE):
        return False
    return warning.reason not in SIDECAR_WARNINGS or warning.container != ""


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


def _container_state(status: Body, name: str) -> Waiting | Running | Terminated | None:
    state = mapping(status, name)
    if terminated := mapping(state, "terminated"):
        return Terminated(
            exit_code=number(terminated, "exitCode"),
            reason=text(terminated, "reason"),
            message=text(terminated, "message"),
            started_at=_real(moment(terminated, "startedAt")),
            ended_at=_real(moment(terminated, "finishedAt")),
        )
    if "running" in state:
        return Running(since=moment(mapping(state, "running"), "startedAt"))
    if waiting := mapping(state, "waiting"):
        return Waiting(reason=text(waiting, "reason"), message=text(waiting, "message"))
    return None


def _real(time: datetime | None) -> datetime | None:
    """Return a time; None for one in 1970, which is what Kubernetes reports of a container that never ran."""
    return None if time is None or time.year < 2000 else time


def _true_conditions(body: Body) -> dict[str, Body]:
    conditions = items(mapping(body, "status"), "conditions")
    return {text(item, "type"): item for item in conditions if item.get("status") == "True"}


LONGEST = 500
"""The most characters. A field's name may be a key that the object's author chose, as long as the whole object."""


def names_of_fields(error: ValidationError) -> str:
    """Return the names of the fields, without their values."""
    text = ", ".join(sorted({".".join(map(str, item["loc"])) for item in error.errors(include_input=False)}))
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
