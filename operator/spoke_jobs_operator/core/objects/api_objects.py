"""Frozen views of the API server's objects: only the fields that the decisions use."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.names import CONTAINER, GROUP
from spoke_jobs.shared.object_fields import Body, digits

from .template_annotations import TemplateRules, read_rules

STANDBY_POOL = ""
"""In place of a SpokeJob's name in the label of Job and pod: a standby pod that has no attempt. The label has to be
there, because the operator's watches select by it."""
LABEL_OWNER = f"{GROUP}/spokejob-uid"
"""On a Job and its pod: the SpokeJob's Kubernetes uid, because a later SpokeJob may have the same name."""
ANNOTATION_TEMPLATE = f"{GROUP}/made-from"
"""On a Job: uid and generation of its PodTemplate."""
ANNOTATION_TEMPLATE_NAME = f"{GROUP}/pod-template"
"""On a Job: the name of its PodTemplate. The chart's admission policies compare the two."""
ANNOTATION_TIMEOUT = f"{GROUP}/timeout-seconds"
"""On a Job: how long its attempt may run, if a SpokeLimit set that instead of the SpokeJob."""

KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
"""On a Job: the LocalQueue that admits it (kueue.sigs.k8s.io/docs/tasks/run/jobs)."""


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
    """A lower version is older. Only versions of objects of the same resource can be compared."""
    created_at: datetime | None
    deletion_at: datetime | None
    """The time of the deletion request plus the grace period; None if no deletion was requested."""
    deletion_grace_seconds: float


@dataclass(frozen=True, slots=True)
class StandbyMark:
    """What the operator noted on the Job of a standby pod when it made the Job."""

    template: str
    """The name of the PodTemplate."""
    digest: str
    """A hash of what the Job was made from."""
    verifier: str
    """See :mod:`spoke_jobs.contract.standby`."""


@dataclass(frozen=True, slots=True)
class Job:
    """A batch/v1 Job that carries our label."""

    meta: Meta
    spokejob: Key
    owner: str
    """Uid of the SpokeJob."""
    attempt: int
    """0 if the label is missing or malformed."""
    template: str
    complete: bool
    failed: bool
    failing: bool
    """Whether the Job will fail and Kubernetes is still ending its pods (condition FailureTarget)."""
    failure_reason: str
    failure_message: str
    suspended: bool
    """`spec.suspend`: whether the Job must have no pod. Kueue suspends the Jobs that it has not admitted."""
    released_at: datetime | None
    """When the Job's last suspension ended; None if the Job is suspended now or never was."""
    resuming: bool
    """Whether the Job's suspension has ended, but the Job controller has not updated the Job's status yet."""

    timeout_seconds: int | None = None
    """How long the Job's attempt may run, if a SpokeLimit set that."""
    starts_one_pod: bool = True
    """Whether it starts exactly one pod, as every Job that the operator makes."""
    standby: StandbyMark | None = None
    """Of a Job that was made for a standby pod; it stays when an attempt is assigned. While none is, the name of
    `spokejob` is empty."""

    @property
    def finished(self) -> bool:
        """Whether the Job controller will start no further pod."""
        return self.complete or self.failed


@dataclass(frozen=True, slots=True)
class Waiting:
    """A container that has not started or can't start."""

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
    started_at: datetime | None = None
    """None if it never ran, or the kubelet does not say."""
    ended_at: datetime | None = None


class ContainerKind(StrEnum):
    """What a container of a pod is for."""

    INIT = "init container"
    """A container that has to end before the job's container starts."""
    SIDECAR = "sidecar"
    """An init container that runs beside the job's container. The kubelet stops it after the job's container."""
    MAIN = "container"
    """The job's container, or one that starts together with it."""
    EPHEMERAL = "ephemeral container"
    """A container that a person has added, to debug."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod."""

    name: str
    kind: ContainerKind
    image: str
    state: Waiting | Running | Terminated | None
    started: bool = True
    """Whether the container runs and its startup probe, if any, has succeeded."""
    last_end: Terminated | None = None
    """How the container ended before its last restart."""
    memory_limit: str = ""
    """As the pod's spec has it; empty for none."""
    memory_request: str = ""

    @property
    def is_jobs(self) -> bool:
        """Whether this container runs the job."""
        return self.kind is ContainerKind.MAIN and self.name == CONTAINER


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
    """Why the whole pod failed, for example "Evicted"."""
    disruption: str
    """The reason of the pod's condition DisruptionTarget, if that condition is true; else empty."""
    unschedulable: str
    """The scheduler's message while it finds no node for the pod; else empty."""
    containers: tuple[Container, ...] = ()
    """The containers that the kubelet reports: init containers and sidecars in their order, then the others."""
    mounted: bool = False
    """Whether the pod's volumes and network are ready, so that its containers may start."""
    message: str = ""
    """Why the whole pod failed, or why it was disrupted, as text."""
    gates: tuple[str, ...] = ()
    """The names of the pod's scheduling gates, while it has any."""
    scheduled_at: datetime | None = None
    """When the pod got its node."""
    node_silent: bool = False
    """Whether the node does not answer: the control plane has set the pod's condition Ready to false, while the last
    report of the kubelet says that its containers are ready."""
    job: str = ""
    """Uid of the pod's Job, if it is or was a standby pod."""
    ip: str = ""
    """The address of a standby pod; empty of others."""

    @property
    def container(self) -> Waiting | Running | Terminated | None:
        """The state of the container that runs the job."""
        return next((item.state for item in self.containers if item.is_jobs), None)

    @property
    def container_began(self) -> datetime | None:
        """When the container that runs the job started; None if it has not, or the kubelet does not say."""
        match self.container:
            case Running(since=began) | Terminated(started_at=began):
                return began
            case _:
                return None

    @property
    def memory_limit(self) -> str:
        """The memory limit of the container that runs the job; empty for none."""
        return next((item.memory_limit for item in self.containers if item.is_jobs), "")

    @property
    def memory_request(self) -> str:
        """The memory that this container requests; empty for none."""
        return next((item.memory_request for item in self.containers if item.is_jobs), "")

    @property
    def terminal(self) -> bool:
        """Whether all containers of the pod have ended and none will restart."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A core/v1 PodTemplate."""

    meta: Meta
    generation: int
    allowed: bool
    """Whether the template has the label that allows jobs to use it."""
    labels: Mapping[str, str]
    """The labels of the PodTemplate itself; those of its pods are in `template`."""
    annotations: Mapping[str, str]
    template: Body
    """Pod metadata and spec; never changed in place."""
    problem: str = ""
    """Why no Job can be made from the PodTemplate, whatever its annotations say."""
    rules: TemplateRules = field(init=False, compare=False)
    """What the annotations allow. Read once: each decision about a SpokeJob of the PodTemplate looks at it."""

    def __post_init__(self) -> None:
        rules = TemplateRules(self.problem) if self.problem else read_rules(self.annotations)
        object.__setattr__(self, "rules", rules)

    @property
    def version(self) -> str:
        """The uid and generation, as attempts record them."""
        return f"{self.meta.uid}/{self.generation}"

    def is_newer_than(self, version: str, at: datetime | None) -> bool:
        """Whether the template was changed or replaced after an attempt recorded ``version`` at time ``at``."""
        uid, _, generation = version.partition("/")
        if uid == self.meta.uid:
            return self.generation > digits(generation)
        return bool(uid and at and self.meta.created_at and self.meta.created_at >= at)


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """A warning Event: of the Job controller that can't create a pod, or about a pod that does not show the problem."""

    meta: Meta
    kind: str
    """`Job` or `Pod`."""
    key: Key
    """The Job or the pod."""
    about: str
    """Its uid."""
    reason: str
    """For example ``FailedMount``."""
    message: str
    container: str = ""
    """The init container or sidecar that the Event is about; empty for any other, or for the whole pod."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A SpokeJob whose spec this release can't read, for example because it was created under an earlier CRD."""

    key: Key
    uid: str
    resource_version: str
    generation: int
    problem: str
    """The names of the unreadable fields, without values."""
    settled: bool
    """Whether its status is already final."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A final SpokeJob, compressed. There may be ten thousand of them, and they are rarely needed.

    A SpokeJob takes about 10 kB of memory as a model, and less than 1 kB compressed.
    """

    key: Key
    uid: str
    resource_version: str
    data: bytes

    @classmethod
    def of(cls, spokejob: SpokeJob) -> Packed:
        """Compress a SpokeJob."""
        data = zlib.compress(spokejob.model_dump_json(exclude_defaults=True).encode(), level=1)
        key = Key(sys.intern(spokejob.namespace), spokejob.name)
        return cls(key, spokejob.uid, spokejob.resource_version, data)

    def unpack(self) -> SpokeJob:
        """Decompress the SpokeJob."""
        return SpokeJob.model_validate_json(zlib.decompress(self.data))
