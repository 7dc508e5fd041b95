"""The operator's copy of the cluster in memory, updated by watches, comparisons and the answers to its own writes.

The three sources may report versions of an object in any order. So an older version never replaces a newer one, and a
deleted object does not come back. For one event loop.
"""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from spoke_jobs.contract import names
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.shared.object_fields import Page, digits, uid_of
from spoke_jobs_operator.core.objects.api_objects import (
    STANDBY_POOL,
    Job,
    Key,
    Packed,
    Pod,
    PodTemplate,
    Terminated,
    Unreadable,
    WarningEvent,
)
from spoke_jobs_operator.core.objects.limit_objects import (
    NamespaceView,
    SpokeLimitView,
    read_namespace,
    read_spokelimit,
)
from spoke_jobs_operator.core.objects.read_objects import read_event, read_job, read_pod, read_spokejob, read_template
from spoke_jobs_operator.core.templates.build_job import inherited

from .warnings_seen import WarningsSeen

T = TypeVar("T")
M = TypeVar("M", Job, Pod, PodTemplate, SpokeLimitView, NamespaceView)
S = ParamSpec("S")
_REMEMBERED_DELETIONS = 10_000


class See(Protocol):
    """Store an object, or its deletion; return the SpokeJobs to handle again."""

    def __call__(self, body: Mapping[str, Any], *, gone: bool) -> set[Key]: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of an object, and its version."""

    key: Key
    uid: str
    version: int


@dataclass(frozen=True, slots=True)
class Listed:
    """The contents of a listing."""

    namespace: str | None
    """None for all namespaces."""
    uids: frozenset[str]
    version: float
    """The version of the listing: no object in it is newer."""

    @classmethod
    async def seen(
        cls, namespace: str | None, pages: AsyncIterator[Page], see: Callable[[Mapping[str, Any]], object]
    ) -> Listed:
        """Read a listing, and pass each object on."""
        uids, version = set[str](), 0
        async for page in pages:
            version = digits(page.resource_version)
            for item in page.items:
                uids.add(uid_of(item))
                see(item)
        return cls(namespace, frozenset(uids), version)


class ObjectIndex(Generic[T]):
    """The objects of one kind.

    :param identify: returns an object's identity.
    :param owner: returns the SpokeJob that an object belongs to.
    :param alike: whether two versions of an object differ only in fields that the operator ignores.
    :param uses: returns the object of another kind that an object depends on, for :meth:`users`; None if there is none.
    """

    def __init__(
        self,
        identify: Callable[[T], Identity],
        owner: Callable[[T], Key],
        alike: Callable[[T, T], bool] = lambda _old, _new: False,
        uses: Callable[[T], Key | None] = lambda _item: None,
    ) -> None:
        self._identify = identify
        self._owner = owner
        self._alike = alike
        self._uses = uses
        self._objects: dict[Key, T] = {}
        self._by_owner: defaultdict[Key, set[Key]] = defaultdict(set)
        self._by_used: defaultdict[Key, set[Key]] = defaultdict(set)
        self._deleted: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[T]:
        return iter(self._objects.values())

    def get(self, key: Key) -> T | None:
        """Return an object, if it is stored."""
        return self._objects.get(key)

    def of(self, owner: Key) -> tuple[T, ...]:
        """Return the objects that belong to a SpokeJob."""
        return tuple(self._objects[key] for key in self._by_owner.get(owner, ()))

    def users(self, used: Key) -> frozenset[Key]:
        """Return the objects that depend on an object of another kind."""
        return frozenset(self._by_used.get(used, ()))

    def put(self, item: T) -> bool:
        """Store an object; return False if nothing has changed for the operator."""
        new = self._identify(item)
        if new.version <= self._deleted.get(new.uid, -1):
            return False
        old = self._objects.get(new.key)
        if old is not None and new.version <= self._identify(old).version:
            return False
        if old is not None:
            self._drop(new.key)
        self._deleted.pop(new.uid, None)
        self._objects[new.key] = item
        self._by_owner[self._owner(item)].add(new.key)
        if (used := self._uses(item)) is not None:
            self._by_used[used].add(new.key)
        return old is None or not self._alike(old, item)

    def remove(self, key: Key, uid: str, version: float = math.inf) -> bool:
        """Remove the object with this UID; return False if it was not stored.

        :param version: the object's last version. `put` accepts a later one: a watch reports an object that loses its
            label as deleted, and the object may get the label again.
        """
        old = self._objects.get(key)
        if old is not None and (known := self._identify(old)).uid == uid and known.version > version:
            return False
        self._deleted[uid] = max(version, self._deleted.get(uid, version))
        while len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)
        if old is None or self._identify(old).uid != uid:
            return False
        self._drop(key)
        return True

    def owner_of(self, item: T) -> Key:
        """Return the SpokeJob that the object belongs to."""
        return self._owner(item)

    def absent(self, listed: Listed, among: Iterable[T] | None = None) -> list[T]:
        """Return the stored objects (all, or those in ``among``) that are missing from the listing."""
        missing: list[T] = []
        for item in list(self if among is None else among):
            identity = self._identify(item)
            within = listed.namespace in (None, identity.key.namespace)
            if within and identity.uid not in listed.uids and identity.version <= listed.version:
                missing.append(item)
        return missing

    def remove_all(self, items: Iterable[T], version: float = math.inf) -> None:
        """Remove objects; see :meth:`remove`."""
        for item in items:
            identity = self._identify(item)
            self.remove(identity.key, identity.uid, version)

    def _drop(self, key: Key) -> None:
        item = self._objects.pop(key)
        _discard(self._by_owner, self._owner(item), key)
        if (used := self._uses(item)) is not None:
            _discard(self._by_used, used, key)


def _discard(index: dict[Key, set[Key]], group: Key, key: Key) -> None:
    index[group].discard(key)
    if not index[group]:
        del index[group]


def _contained(see: Callable[Concatenate[Store, S], set[Key]]) -> Callable[Concatenate[Store, S], set[Key]]:
    """Wrap a method of the store: report an object that can't be stored, so that the others are stored."""

    def seen(store: Store, /, *args: S.args, **options: S.kwargs) -> set[Key]:
        try:
            return see(store, *args, **options)
        except Exception as error:
            store.on_error(error)
            return set()

    update_wrapper(seen, see)
    return seen


class Store:
    """The objects of all kinds. Each method that stores an object returns the SpokeJobs to handle again."""

    def __init__(self) -> None:
        self.spokejobs: ObjectIndex[SpokeJob | Packed | Unreadable] = ObjectIndex(
            _identify_spokejob, _key_of, uses=_template_of
        )
        self.jobs: ObjectIndex[Job] = ObjectIndex(_identify, lambda job: job.spokejob, _are_alike)
        self.pods: ObjectIndex[Pod] = ObjectIndex(_identify, lambda pod: pod.spokejob, _are_alike)
        self.templates: ObjectIndex[PodTemplate] = ObjectIndex(_identify, _own_key, _template_alike)
        self.spokelimits: ObjectIndex[SpokeLimitView] = ObjectIndex(_identify, _own_key, _limit_alike)
        self.namespaces: ObjectIndex[NamespaceView] = ObjectIndex(_identify, _own_key, _namespace_alike)
        self._standby_templates: set[Key] = set()
        self.on_limits: Callable[[], None] = lambda: None
        """Called when a SpokeLimit or a Namespace has changed limits or pauses."""
        self.on_error: Callable[[Exception], None] = lambda _error: None
        """Called when an object could not be stored."""
        self._warnings = WarningsSeen()
        self._see: dict[str, See] = {
            Kind.SPOKEJOB.plural: self.spokejob_seen,
            Kind.JOB.plural: self.job_seen,
            Kind.POD.plural: self.pod_seen,
            Kind.TEMPLATE.plural: self.template_seen,
            Kind.SPOKELIMIT.plural: self.spokelimit_seen,
            Kind.NAMESPACE.plural: self.namespace_seen,
            Kind.WARNING.plural: self.event_seen,
        }

    def see(self, plural: str, body: Mapping[str, Any], *, gone: bool) -> set[Key]:
        """Store an object, or its deletion; ``plural`` names its kind."""
        see = self._see.get(plural)
        return see(body, gone=gone) if see is not None else set()

    def events_of(self, items: Iterable[Job | Pod]) -> tuple[WarningEvent, ...]:
        """Return the newest Events of each Job and pod."""
        return tuple(event for item in items for event in self._warnings.about(item.meta))

    def spokejob(self, key: Key) -> SpokeJob | Unreadable | None:
        """Return a SpokeJob, if it is stored."""
        item = self.spokejobs.get(key)
        return item.unpack() if isinstance(item, Packed) else item

    def has_next_run(self, spokejob: SpokeJob) -> bool:
        """Whether the SpokeJob of the job's next run is stored."""
        later = self.spokejob(run_key(spokejob, spokejob.spec.run + 1))
        return isinstance(later, SpokeJob) and later.spec.uid == spokejob.spec.uid

    @_contained
    def spokejob_seen(self, body: Mapping[str, Any], *, gone: bool = False) -> set[Key]:
        """Store a SpokeJob, or its deletion. A new run concerns the SpokeJob of the run before it as well."""
        item: SpokeJob | Packed | Unreadable = read_spokejob(body)
        earlier = run_key(item, item.spec.run - 1) if isinstance(item, SpokeJob) and item.spec.run > 1 else None
        if isinstance(item, SpokeJob) and item.status.is_final:
            item = Packed.of(item)
        identity = _identify_spokejob(item)
        changed = (
            self.spokejobs.remove(identity.key, identity.uid, identity.version) if gone else self.spokejobs.put(item)
        )
        if not changed:
            return set()
        return {identity.key, earlier} if earlier and self.spokejobs.get(earlier) else {identity.key}

    @_contained
    def job_seen(self, body: Mapping[str, Any], *, gone: bool = False) -> set[Key]:
        """Store a Job, or its deletion."""
        job = read_job(body)
        changed = _stored(self.jobs, job, gone=gone)
        (self._warnings.forget if gone else self._warnings.appeared)(job.meta)
        return {job.spokejob} if changed else set()

    def job_deleted(self, key: Key, uid: str, answer: Mapping[str, Any] | None) -> None:
        """Store what the API server answered to the deletion of a Job: it stays until its pods are gone, or is gone."""
        if answer and answer.get("kind") == Kind.JOB.kind:
            self.job_seen(answer)
        else:
            self.jobs.remove(key, uid)

    @_contained
    def pod_seen(self, body: Mapping[str, Any], *, gone: bool = False) -> set[Key]:
        """Store a pod, or its deletion.

        The kubelet reports how a deleted pod ended, and removes it right afterwards. So a pod that is deleted in its
        final state is kept until the next comparison. Otherwise a busy operator would only see that it is missing.
        """
        pod = read_pod(body)
        changed = _stored(self.pods, pod, gone=gone and not _has_final_state(pod))
        (self._warnings.forget if gone else self._warnings.appeared)(pod.meta)
        return {pod.spokejob} if changed else set()

    @_contained
    def template_seen(self, body: Mapping[str, Any], *, gone: bool = False) -> set[Key]:
        """Store a PodTemplate, or its deletion."""
        template = read_template(body)
        meta = template.meta
        changed = _stored(self.templates, template, gone=gone)
        had = meta.key in self._standby_templates
        wants = _wants_standby(template)
        if wants:
            self._standby_templates.add(meta.key)
        if not changed:
            return set()
        return set(self.spokejobs.users(meta.key)) | (
            {Key(meta.key.namespace, STANDBY_POOL)} if had or wants else set()
        )

    def standby_templates(self) -> frozenset[Key]:
        """Return the PodTemplates whose annotation asks for standby pods."""
        for key in [key for key in self._standby_templates if not _wants_standby(self.templates.get(key))]:
            self._standby_templates.discard(key)
        return frozenset(self._standby_templates)

    @_contained
    def spokelimit_seen(self, body: Mapping[str, Any], *, gone: bool = False) -> set[Key]:
        """Store a SpokeLimit, or its deletion."""
        if _stored(self.spokelimits, read_spokelimit(body), gone=gone):
            self.on_limits()
        return set()

    @_contained
    def namespace_seen(self, body: Mapping[str, Any], *, gone: bool = False) -> set[Key]:
        """Store a Namespace, or its deletion."""
        if _stored(self.namespaces, read_namespace(body), gone=gone):
            self.on_limits()
        return set()

    def remove_settings(self, index: ObjectIndex[T], absent: Iterable[T], version: float = math.inf) -> None:
        """Remove SpokeLimits or Namespaces that a listing lacks."""
        if absent := list(absent):
            index.remove_all(absent, version)
            self.on_limits()

    @_contained
    def event_seen(self, body: Mapping[str, Any], *, gone: bool = False) -> set[Key]:
        """Store an Event. Its deletion changes nothing."""
        event = None if gone else read_event(body)
        if event is None:
            return set()
        about = self.pods.get(event.key) if event.kind == "Pod" else self.jobs.get(event.key)
        known = about is not None and about.meta.uid == event.about
        return {about.spokejob} if self._warnings.put(event, known=known) and about and known else set()

    def remove_pods(self, absent: Iterable[Pod], version: float = math.inf) -> None:
        """Remove pods, except those whose end is not in their SpokeJob's status yet."""
        self.pods.remove_all([pod for pod in absent if not self._end_is_unrecorded(pod)], version)

    def _end_is_unrecorded(self, pod: Pod) -> bool:
        spokejob = self.spokejobs.get(pod.spokejob)
        if not _has_final_state(pod) or not isinstance(spokejob, SpokeJob) or spokejob.uid != pod.owner:
            return False
        record = next((item for item in spokejob.status.attempts if item.number == pod.attempt), None)
        return pod.attempt > spokejob.status.attempt if record is None else record.finished_at is None

    def unfinished(self) -> Iterator[SpokeJob]:
        """Return the SpokeJobs that are not final."""
        for item in self.spokejobs:
            if isinstance(item, SpokeJob) and not item.status.is_final:
                yield item


def key_of(spokejob: SpokeJob) -> Key:
    """Return the SpokeJob's namespaced name."""
    return Key(spokejob.namespace, spokejob.name)


def run_key(spokejob: SpokeJob, run: int) -> Key:
    """Return the namespaced name of the SpokeJob of another run of the same job."""
    spec = spokejob.spec
    return Key(spokejob.namespace, names.spokejob_name(spec.job_type, spec.request_id, spec.uid, run))


def _template_of(item: SpokeJob | Packed | Unreadable) -> Key | None:
    """Return the PodTemplate of a SpokeJob that is not final. Others make no further Jobs from it."""
    if isinstance(item, SpokeJob) and not item.status.is_final:
        return Key(item.namespace, item.spec.pod_template)
    return None


def _wants_standby(template: PodTemplate | None) -> bool:
    if template is None:
        return False
    return template.rules.standby.maximum > 0 or bool(template.rules.standby_problem)


def _has_final_state(pod: Pod) -> bool:
    return pod.terminal or isinstance(pod.container, Terminated)


def _key_of(item: SpokeJob | Packed | Unreadable) -> Key:
    return key_of(item) if isinstance(item, SpokeJob) else item.key


def _identify_spokejob(item: SpokeJob | Packed | Unreadable) -> Identity:
    return Identity(_key_of(item), item.uid, digits(item.resource_version))


def _stored(index: ObjectIndex[M], item: M, *, gone: bool) -> bool:
    """Store an object or its deletion; return whether something has changed for the operator."""
    meta = item.meta
    return index.remove(meta.key, meta.uid, meta.resource_version) if gone else index.put(item)


def _own_key(item: PodTemplate | SpokeLimitView | NamespaceView) -> Key:
    """Return the key of an object that belongs to no SpokeJob."""
    return item.meta.key


def _identify(item: Job | Pod | PodTemplate | SpokeLimitView | NamespaceView) -> Identity:
    return Identity(item.meta.key, item.meta.uid, item.meta.resource_version)


def _are_alike(old: Job | Pod, new: Job | Pod) -> bool:
    """Whether nothing but the version differs: most updates of a Job concern fields that the operator ignores."""
    return replace(new, meta=replace(new.meta, resource_version=old.meta.resource_version)) == old


def _template_alike(old: PodTemplate, new: PodTemplate) -> bool:
    """Whether both versions allow the same and make the same Jobs: tools rewrite their own labels and annotations."""
    return _relevant(old) == _relevant(new)


def _relevant(template: PodTemplate) -> tuple[object, ...]:
    own = (template.allowed, template.rules, inherited(template.labels), inherited(template.annotations))
    return (template.meta.uid, template.meta.deletion_at, template.generation, template.template, *own)


def _limit_alike(old: SpokeLimitView, new: SpokeLimitView) -> bool:
    """Whether both versions set the same limits: the operator's own writes change only the status."""
    return (old.spec, old.pause_set) == (new.spec, new.pause_set)


def _namespace_alike(old: NamespaceView, new: NamespaceView) -> bool:
    return (old.paused, old.pause_reason) == (new.paused, new.pause_reason)
