"""Frozen views of the API server's objects: only the fields that the decisions use."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from spoke_jobs.contract.names import GROUP
from spoke_jobs.contract.object_fields import Body, digits
from spoke_jobs.contract.spokejob import SpokeJob

LABEL_OWNER = f"{GROUP}/spokejob-uid"
"""On a Job and its pod: the SpokeJob's Kubernetes uid. A SpokeJob that is created again may have the same name."""
ANNOTATION_TEMPLATE = f"{GROUP}/made-from"
"""On a Job: uid and generation of its PodTemplate."""

KUEUE_PREFIX = "kueue.x-k8s.io/"
KUEUE_QUEUE = f"{KUEUE_PREFIX}queue-name"
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
    """Comparable between objects of one resource: a lower one is older."""
    created_at: datetime | None
    deletion_at: datetime | None
    """If deletion was requested: request time plus grace period; else None."""
    deletion_grace_seconds: float


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
    suspended: bool
    """`spec.suspend`: it must have no pod. Kueue holds Jobs back in this way."""
    released_at: datetime | None
    """When its last suspension ended; None if it never was suspended, or is suspended now."""
    resuming: bool
    """Whether its suspension has ended, but the Job controller has not updated its status yet."""

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
    """The reason of its condition DisruptionTarget, if that is true."""
    unschedulable: str
    """The scheduler's message while it finds no node for the pod; else empty."""
    container: Waiting | Running | Terminated | None
    """The container named ``job``."""
    init_problem: Waiting | None
    """An init container that can't start."""
    mounted: bool = False
    """Whether its volumes and network are ready, so that containers may start."""

    @property
    def terminal(self) -> bool:
        """Whether all its containers have ended and none will restart."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A core/v1 PodTemplate."""

    meta: Meta
    generation: int
    allowed: bool
    """Whether its label allows jobs to use it."""
    kueue: Mapping[str, str]
    """Kueue's labels, from the template's metadata or its pods'."""
    template: Body
    """Pod metadata and spec; never changed in place."""

    @property
    def version(self) -> str:
        """The uid and generation, as attempts record them."""
        return f"{self.meta.uid}/{self.generation}"

    def is_newer_than(self, version: str, at: datetime | None) -> bool:
        """Whether it was changed or replaced after an attempt recorded ``version`` at time ``at``."""
        uid, _, generation = version.partition("/")
        if uid == self.meta.uid:
            return self.generation > digits(generation)
        return bool(uid and at and self.meta.created_at and self.meta.created_at >= at)


@dataclass(frozen=True, slots=True)
class FailedCreate:
    """An Event of the Job controller: it can't create a pod."""

    meta: Meta
    job: Key
    job_uid: str
    message: str

    @property
    def about(self) -> str:
        """The uid of the object that the Event is about."""
        return self.job_uid


@dataclass(frozen=True, slots=True)
class FailedMount:
    """An Event of the kubelet: it can't mount a pod's volumes, for example because a Secret is missing.

    The pod itself does not show this.
    """

    meta: Meta
    pod: Key
    pod_uid: str
    message: str

    @property
    def about(self) -> str:
        """The uid of the object that the Event is about."""
        return self.pod_uid


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A SpokeJob whose spec this release can't read, for example because it is older than the CRD."""

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
