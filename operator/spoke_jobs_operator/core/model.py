"""Frozen views of the API server's objects: just what the decisions use.

Reading is lenient: a field that is missing, or that a newer Kubernetes has changed, reads as "not there", because one
odd object must not stop the operator from serving the others.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import ValidationError

from spoke_jobs.contract.names import CONTAINER, GROUP, LABEL_ATTEMPT, LABEL_SPOKEJOB, LABEL_TEMPLATE
from spoke_jobs.contract.spokejob import SpokeJob

LABEL_OWNER = f"{GROUP}/spokejob-uid"
"""On a Job and its pod: the Kubernetes uid of the SpokeJob, since a SpokeJob made anew has the old one's name."""
ANNOTATION_TEMPLATE = f"{GROUP}/made-from"
"""On a Job: uid and generation of the PodTemplate that it was made from."""

KUEUE_PREFIX = "kueue.x-k8s.io/"
KUEUE_QUEUE = f"{KUEUE_PREFIX}queue-name"
"""On a Job: the LocalQueue that is to admit it (kueue.sigs.k8s.io/docs/tasks/run/jobs)."""

Body = Mapping[str, Any]
"""An object as the API server sends it."""


class Key(NamedTuple):
    """A namespaced name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Meta:
    """The part of the metadata that every view keeps."""

    key: Key
    uid: str
    resource_version: int
    """Comparable between objects of one resource: a lower one is older."""
    created_at: datetime | None
    deletion_at: datetime | None
    """When a deletion that has been asked for is due: the request plus the grace period. None: no such request."""
    deletion_grace_seconds: float


@dataclass(frozen=True, slots=True)
class Job:
    """A batch/v1 Job that carries our label."""

    meta: Meta
    spokejob: Key
    owner: str
    """Uid of the SpokeJob."""
    attempt: int
    """0 if the label can't be read."""
    template: str
    complete: bool
    failed: bool
    failing: bool
    """Kubernetes has decided that it fails, and still ends its pods (condition FailureTarget)."""
    failure_reason: str
    suspended: bool
    """Whether it may have no pod now: Kueue's way to hold a Job back."""
    released_at: datetime | None
    """When it was last let have its pod; None if it was never suspended, or is."""
    resuming: bool
    """Whether it is let have its pod just now, and its controller hasn't taken note of that yet."""

    @property
    def finished(self) -> bool:
        """Whether its controller will start no further pod."""
        return self.complete or self.failed


@dataclass(frozen=True, slots=True)
class Waiting:
    """A container that can't start, or can't yet."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Running:
    """A container that runs."""

    since: datetime | None


@dataclass(frozen=True, slots=True)
class Terminated:
    """A container that has ended."""

    exit_code: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that carries our label."""

    meta: Meta
    spokejob: Key
    owner: str
    attempt: int
    node: str
    phase: str
    reason: str
    """Why the pod as a whole failed ("Evicted", say)."""
    disruption: str
    """The reason of a true DisruptionTarget condition."""
    unschedulable: str
    """The scheduler's message while it finds no node."""
    container: Waiting | Running | Terminated | None
    """The container named ``job``."""
    init_problem: Waiting | None
    """An init container that can't start."""
    mounted: bool = False
    """Whether it has its volumes and its network, so that containers may start."""

    @property
    def terminal(self) -> bool:
        """Whether all its containers have ended for good."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A core/v1 PodTemplate."""

    meta: Meta
    generation: int
    allowed: bool
    """Whether it is labelled as one that jobs may run by."""
    kueue: Mapping[str, str]
    """Its own labels, or its pods', that Kueue reads."""
    template: Body
    """Pod metadata and spec; never changed in place."""

    @property
    def version(self) -> str:
        """What attempts record of it."""
        return f"{self.meta.uid}/{self.generation}"

    def is_newer_than(self, version: str, at: datetime | None) -> bool:
        """Whether it was changed, or made anew, since an attempt that began at that time recorded this version."""
        uid, _, generation = version.partition("/")
        if uid == self.meta.uid:
            return self.generation > _digits(generation)
        return bool(uid and at and self.meta.created_at and self.meta.created_at >= at)


@dataclass(frozen=True, slots=True)
class FailedCreate:
    """An Event by which the Job controller says that it can't create a pod."""

    meta: Meta
    job: Key
    job_uid: str
    message: str

    @property
    def about(self) -> str:
        """The uid of what it tells of."""
        return self.job_uid


@dataclass(frozen=True, slots=True)
class FailedMount:
    """An Event by which the kubelet says that it can't give a pod its volumes: a Secret or ConfigMap isn't there, say.

    The pod itself says nothing of it.
    """

    meta: Meta
    pod: Key
    pod_uid: str
    message: str

    @property
    def about(self) -> str:
        """The uid of what it tells of."""
        return self.pod_uid


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A SpokeJob whose spec isn't what this release's model allows (it is older than the CRD, say)."""

    key: Key
    uid: str
    resource_version: str
    generation: int
    problem: str
    """The fields, without their values."""
    settled: bool
    """Whether its status already says so."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A final SpokeJob, kept small: there may be ten thousand, of which hardly anything is asked any more.

    As a model it takes some 10 kB of memory, packed less than one.
    """

    key: Key
    uid: str
    resource_version: str
    data: bytes

    @classmethod
    def of(cls, spokejob: SpokeJob) -> Packed:
        """Pack it."""
        data = zlib.compress(spokejob.model_dump_json(exclude_defaults=True).encode(), level=1)
        key = Key(sys.intern(spokejob.namespace), spokejob.name)
        return cls(key, spokejob.uid, spokejob.resource_version, data)

    def unpack(self) -> SpokeJob:
        """The same again."""
        return SpokeJob.model_validate_json(zlib.decompress(self.data))


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
        attempt=_digits(_text(labels, LABEL_ATTEMPT)),
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
        attempt=_digits(_text(labels, LABEL_ATTEMPT)),
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
        resource_version=_digits(_text(metadata, "resourceVersion")),
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


def _digits(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _time(body: Body, name: str) -> datetime | None:
    try:
        value = datetime.fromisoformat(_text(body, name))
    except ValueError:
        return None
    return value if value.tzinfo else None
