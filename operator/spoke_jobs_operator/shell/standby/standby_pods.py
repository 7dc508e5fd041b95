"""What is known of the standby pods that have no attempt."""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from spoke_jobs.contract.operator_state import PublishedPool, PublishedStandby
from spoke_jobs.contract.standby import KEY_BYTES, secret_of, verifier_of
from spoke_jobs_operator.core.objects.api_objects import STANDBY_POOL, Job, Key, Pod, PodTemplate
from spoke_jobs_operator.core.standby.assignment import Told
from spoke_jobs_operator.core.standby.pool import Member
from spoke_jobs_operator.core.standby.standby_job import digest_of
from spoke_jobs_operator.shell.store.store import Store

_ARRIVALS = 5_000
_STARTS = 20
_TEXT_LIMIT = 300


@dataclass(slots=True)
class PoolMemory:
    """What is remembered of the standby pods of one PodTemplate."""

    arrivals: deque[datetime] = field(default_factory=lambda: deque(maxlen=_ARRIVALS))
    """When attempts came that could use a standby pod."""
    starts: deque[timedelta] = field(default_factory=lambda: deque(maxlen=_STARTS))
    """How long the last standby pods took to be ready."""
    failed: set[str] = field(default_factory=set)
    """The UIDs of the Jobs that ended by themselves and are counted."""
    failures: int = 0
    """How many standby pods could not be made, or ended by themselves, since :meth:`recovered`."""
    failure: str | None = None
    """Why the last one failed; None if none has failed since one was ready."""
    retry_at: datetime | None = None
    hindrance: str = ""
    """What keeps those that start from being ready, if no other one is and they take long."""
    has_ready: bool = False
    """Whether one is ready."""
    warned_of: str = ""
    digest: tuple[str, str] = ("", "")
    """What a standby pod is made from, and the version of the PodTemplate from which this was computed."""

    def recovered(self) -> None:
        """Begin the waits after failures anew: standby pods are useful, or there is a new reason to try."""
        self.failures, self.failure, self.retry_at = 0, None, None

    @property
    def lacks_pods(self) -> bool:
        """Whether the PodTemplate wants standby pods and has none, as far as that is known."""
        return not self.has_ready and (bool(self.warned_of or self.hindrance) or self.failure is not None)


@dataclass(slots=True)
class JobMemory:
    """What this process remembers of a standby pod's Job, until the Job is gone."""

    ours: bool | None = None
    """Whether attempts may be assigned to its pod, whose secret this operator has; None if that was not looked at."""
    made: bool = False
    """Whether this process has created it, and it is not ready yet."""
    ready: bool = False
    """Whether its pod has answered that it is free."""
    asked_since: datetime | None = None
    asked_at: datetime | None = None
    """When its pod was asked last whether it is free."""
    delete_at: datetime | None = None
    """When to try again to delete it."""
    took: bool = False
    """Whether this process has taken it for an attempt, so that no earlier leader has told its pod."""
    reached: bool = False
    """Whether this process has connected to its pod, so that the pod may have the attempt."""
    told: Told = Told.NOT_YET
    tell_at: datetime | None = None
    unanswered: int = 0
    refusal: str = ""
    """What the API server answered to the last step, if it refused it."""

    def fail(self) -> None:
        """Let the pod be replaced: an attempt could not be handed over to it."""
        self.told, self.ours = Told.FAILED, False


class StandbyPods:
    """The standby pods of all namespaces, and who has reserved which.

    :param key: the operator's secret, from which that of each pod is derived.
    :param seconds: how long a standby pod waits at most.
    :param keeps: whether PodTemplates get standby pods. Otherwise those that there are from before are deleted, and no
        attempt is assigned. One that an earlier process has assigned is handed over anyway.
    """

    def __init__(self, store: Store, key: bytes, seconds: int, *, keeps: bool = True) -> None:
        self._store = store
        self._key = key
        self.keeps = keeps
        self.seconds = seconds
        self.on_change: Callable[[Key], None] = lambda _pool: None
        """Called with the pool of a namespace that has to be looked at."""
        self._reserved: dict[Key, Key] = {}
        """The SpokeJobs by the Jobs that they have reserved."""
        self._jobs: dict[Key, Key] = {}
        """The same, the other way round."""
        self._memory: dict[Key, PoolMemory] = {}
        self._of_jobs: dict[str, JobMemory] = {}

    def wanting(self) -> Collection[Key]:
        """Return the PodTemplates that are to have standby pods."""
        return self._store.standby_templates() if self.keeps else ()

    def reserve(self, spokejob: Key, job: Key | None) -> None:
        """Reserve a standby pod for a SpokeJob; None releases the one that it has."""
        old = self._jobs.get(spokejob)
        if old == job:
            return
        if old is not None:
            del self._jobs[spokejob]
            if self._reserved.get(old) == spokejob:
                del self._reserved[old]
            self.on_change(pool_of(spokejob.namespace))
        if job is not None:
            self._jobs[spokejob], self._reserved[job] = job, spokejob

    def is_reserved(self, job: Key) -> bool:
        """Whether a SpokeJob has reserved the standby pod of this Job."""
        return job in self._reserved

    def secret(self, namespace: str, job: str) -> str:
        """Return the secret of a standby pod."""
        return secret_of(self._key, namespace, job)

    def is_ours(self, job: Job) -> bool:
        """Whether this operator has the secret of the Job's pod."""
        if job.standby is None:
            return False
        memory = self.of_job(job.meta.uid)
        if memory.ours is None:
            memory.ours = verifier_of(self.secret(job.meta.key.namespace, job.meta.key.name)) == job.standby.verifier
        return memory.ours

    def of_job(self, uid: str) -> JobMemory:
        """Return what is remembered of a Job."""
        return self._of_jobs.setdefault(uid, JobMemory())

    def memory(self, template: Key) -> PoolMemory:
        """Return what is remembered of the standby pods of a PodTemplate."""
        return self._memory.setdefault(template, PoolMemory())

    def problems(self, namespace: str) -> list[PublishedStandby]:
        """Return the PodTemplates of a namespace that want standby pods and lack them."""
        found = {key.name: memory for key, memory in self._memory.items() if key.namespace == namespace}
        return [_published(name, memory) for name, memory in sorted(found.items()) if memory.lacks_pods]

    def counts(self, namespace: str) -> list[PublishedPool]:
        """Count the standby pods of a namespace, by PodTemplate: of those that want some, and of those that have some.

        The counts of all PodTemplates are those of the metric ``spoke_operator_standby_pods``.
        """
        found = {key.name: Counter[str]() for key in self.wanting() if key.namespace == namespace}
        for template, members in self.members(namespace).items():
            states, waits = found.setdefault(template, Counter()), (item.ready for item in members if _waits(item))
            states.update("free" if ready else "starting" for ready in waits)
        for spokejob, key in self._jobs.items():
            job = self._store.jobs.get(key) if spokejob.namespace == namespace else None
            if job is not None and job.standby is not None:
                found.setdefault(job.standby.template, Counter())["assigned"] += 1
        return [PublishedPool(template=name, **states) for name, states in sorted(found.items())]

    def digest(self, template: PodTemplate) -> str:
        """Return what a standby pod is made from now. It is computed once for each version of the PodTemplate."""
        memory = self.memory(template.meta.key)
        version = f"{template.meta.uid}/{template.meta.resource_version}"
        if memory.digest[1] != version:
            earlier, memory.digest = memory.digest[0], (digest_of(template, self.seconds), version)
            if earlier not in ("", memory.digest[0]):  # what made the earlier ones fail may be mended
                memory.recovered()
        return memory.digest[0]

    def members(self, namespace: str, for_spokejob: Key | None = None) -> dict[str, list[Member]]:
        """Return the standby pods of a namespace that have no attempt, by the names of their PodTemplates.

        :param for_spokejob: a SpokeJob for which the one counts as free that it has reserved itself.
        """
        pods: dict[str, Pod] = {}
        for pod in self._store.pods.of(pool_of(namespace)):
            known = pods.get(pod.job)
            if known is None or known.meta.resource_version < pod.meta.resource_version:
                pods[pod.job] = pod
        found: dict[str, list[Member]] = {}
        for job in self._store.jobs.of(pool_of(namespace)):
            if job.standby is None:
                continue
            reserved_for = self._reserved.get(job.meta.key)
            found.setdefault(job.standby.template, []).append(
                Member(
                    job,
                    pods.get(job.meta.uid),
                    ready=self.of_job(job.meta.uid).ready,
                    reserved=reserved_for not in (None, for_spokejob),
                    ours=self.is_ours(job),
                    asked_since=self.of_job(job.meta.uid).asked_since,
                )
            )
        return found

    def pod_of(self, job: Job) -> Pod | None:
        """Return the newest pod of a standby pod's Job, with or without an attempt."""
        owners = {job.spokejob, pool_of(job.meta.key.namespace)}
        found = (pod for owner in owners for pod in self._store.pods.of(owner) if pod.job == job.meta.uid)
        return max(found, key=lambda pod: pod.meta.resource_version, default=None)

    def forget_others(self, namespace: str, templates: Collection[str]) -> None:
        """Forget the PodTemplates of a namespace but these: they want no standby pods any more, and have none."""
        for key in [key for key in self._memory if key.namespace == namespace and key.name not in templates]:
            del self._memory[key]

    def forget_gone(self, known: set[str]) -> None:
        """Forget all Jobs but the ones with these UIDs."""
        self._of_jobs = {uid: memory for uid, memory in self._of_jobs.items() if uid in known}


def _waits(member: Member) -> bool:
    return not member.ended and not member.reserved


def _published(template: str, memory: PoolMemory) -> PublishedStandby:
    if memory.warned_of:
        return PublishedStandby(template=template, problem=memory.warned_of[:_TEXT_LIMIT])
    if memory.failure is None:
        return PublishedStandby(template=template, hindrance=memory.hindrance)
    at = memory.retry_at.isoformat() if memory.retry_at else None
    return PublishedStandby(template=template, failure=memory.failure[:_TEXT_LIMIT], retry_at=at)


def pool_of(namespace: str) -> Key:
    """Return the key of a namespace's standby pods in the work queue and the store."""
    return Key(namespace, STANDBY_POOL)


class UnusableKey(Exception):
    """The key's file can't be read, or holds too little."""


def standby_key(path: str) -> bytes:
    """Read the key; without a file, make one that only this process has.

    :raises UnusableKey: if the file can't be used.
    """
    if not path:
        return secrets.token_bytes(KEY_BYTES)
    name = f"SPOKE_OPERATOR_STANDBY_KEY_FILE={path}"
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise UnusableKey(f"{name} can't be read: {error.strerror}") from None
    if len(key) < KEY_BYTES:
        raise UnusableKey(
            f"{name} holds {len(key)} bytes: at least {KEY_BYTES} are needed, `openssl rand -hex 32` makes some"
        )
    return key
