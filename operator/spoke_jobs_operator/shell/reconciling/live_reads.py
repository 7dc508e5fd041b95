"""Read objects from the API server before a decision that the copy in memory is not good enough for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.names import LABEL_SPOKEJOB, is_object_name
from spoke_jobs.shared.object_fields import mapping, text, uid_of
from spoke_jobs_operator.core.objects.api_objects import STANDBY_POOL, Key
from spoke_jobs_operator.core.standby.assignment import is_assigned
from spoke_jobs_operator.shell.api.operator_client import Client, Listing
from spoke_jobs_operator.shell.store.store import Listed, ObjectIndex, Store

T = TypeVar("T")
RECENT = timedelta(seconds=5)
"""How long a PodTemplate that was read live is not read again. Thousands of SpokeJobs may name the same one."""


class LiveReads:
    """Live reads, whose results go to the store.

    :param clock: returns the current time.
    :param wake: called for what has to be handled again because a PodTemplate has changed: SpokeJobs and a pool. The
        watch brings nothing new then.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        clock: Callable[[], datetime],
        wake: Callable[[Key], None] = lambda _key: None,
    ) -> None:
        self._client = client
        self._store = store
        self._clock = clock
        self._wake = wake
        self._read_at: dict[Key, datetime] = {}  # PodTemplates, the one that was read first comes first
        self._reading: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def all_of(self, key: Key) -> None:
        """Read a SpokeJob, its Jobs, pods and PodTemplate, and the standby pod's Job that it was assigned to."""
        body = await self._client.read(Kind.SPOKEJOB, key)
        cached = self._store.spokejobs.get(key)
        if cached and (body is None or uid_of(body) != cached.uid):
            self._store.spokejobs.remove(key, cached.uid)
        if body is None:
            return
        self._store.spokejob_seen(body)
        labels = f"{LABEL_SPOKEJOB}={key.name}"
        jobs = self._client.listing(Kind.JOB, key.namespace, labels=labels)
        await self._refresh(jobs, self._store.job_seen, self._store.jobs, key)
        pods = self._client.listing(Kind.POD, key.namespace, labels=labels)
        await self._refresh(pods, self._store.pod_seen, self._store.pods, key, self._store.remove_pods)
        await self._template(Key(key.namespace, text(mapping(body, "spec"), "podTemplate")))
        await self._assigned_job(key)

    async def _assigned_job(self, key: Key) -> None:
        """Read the Job of a standby pod, which may not have the SpokeJob's label yet."""
        spokejob = self._store.spokejob(key)
        record = spokejob.status.open_attempt if isinstance(spokejob, SpokeJob) else None
        if record is None or not is_assigned(record):
            return
        job = Key(key.namespace, record.job)
        if body := await self._client.read(Kind.JOB, job):
            self._store.job_seen(body)
        elif cached := self._store.jobs.get(job):
            self._store.jobs.remove(job, cached.meta.uid)

    def has_read_template(self, key: Key) -> bool:
        """Whether the PodTemplate, or that it is missing, was read live within the last seconds."""
        read_at = self._read_at.get(key)
        return read_at is not None and timedelta() <= self._clock() - read_at < RECENT

    async def template_of(self, key: Key) -> None:
        """Read the PodTemplate of a SpokeJob, unless that was done within the last seconds."""
        spokejob = self._store.spokejob(key)
        if not isinstance(spokejob, SpokeJob):
            return
        template = Key(key.namespace, spokejob.spec.pod_template)
        async with self._reading.setdefault(template, asyncio.Lock()):
            if not self.has_read_template(template):
                await self._template(template)

    async def _template(self, key: Key) -> None:
        if not is_object_name(key.name):
            return
        template = await self._client.read(Kind.TEMPLATE, key)
        if template:
            for concerned in self._store.template_seen(template):
                self._wake(concerned)
        elif cached := self._store.templates.get(key):
            self._store.templates.remove_all([cached])
            for concerned in (*self._store.spokejobs.users(key), Key(key.namespace, STANDBY_POOL)):
                self._wake(concerned)
        now = self._clock()
        self._read_at.pop(key, None)
        self._read_at[key] = now
        while now - self._read_at[first := next(iter(self._read_at))] >= RECENT:
            del self._read_at[first]

    async def _refresh(
        self,
        listing: Listing,
        see: Callable[[Mapping[str, Any]], object],
        index: ObjectIndex[T],
        key: Key,
        remove_all: Callable[[list[T], float], None] | None = None,
    ) -> None:
        known = index.of(key)
        listed = await Listed.seen(listing.namespace, listing.pages, see)
        (remove_all or index.remove_all)(index.absent(listed, known), listed.version)
