"""The limits of the ledger in memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

from spoke_jobs.contract.limit_scopes import Scope, Subject
from spoke_jobs.ledger.audit.audit_events import Action
from spoke_jobs.ledger.limits_and_pauses.limit_store import Change, LimitStore, declarations
from spoke_jobs.limits.admission import Admission, Bucket, LimitSet
from spoke_jobs.limits.job_limit import Bounds, JobLimit, empty
from spoke_jobs.limits.limit_file import Applied, LimitEntry, applied
from spoke_jobs.model import JobRequest, JobState


class MemoryLimits(LimitStore):
    """See :class:`spoke_jobs.ledger.limits_and_pauses.limit_store.LimitStore`. It keeps no job events."""

    def __init__(self, lock: AbstractContextManager[object], now: Callable[[], datetime]) -> None:
        self._lock = lock
        self._now = now
        self._last_id = 0
        self._limits: dict[Scope, JobLimit] = {}
        self._buckets: dict[Bucket, datetime] = {}
        """Of the rates of each queue, for example, those that are not full."""

    def all(self) -> Sequence[JobLimit]:
        with self._lock:
            return sorted(self._limits.values(), key=lambda limit: str(limit.scope))

    def declare(self, declared: Mapping[Scope, Bounds], app: str) -> None:
        with self._lock:
            for _, after in declarations(self.all(), declared, app):
                self._keep(after)

    def apply(self, entries: Sequence[LimitEntry], by: str = "", *, prune: bool = False) -> list[Applied]:
        with self._lock:
            changes = applied(self.all(), entries, self._now(), by=by, prune=prune)
            for change in changes:
                self._keep(change.after)
            return changes

    def admission(self, jobs: Iterable[JobRequest]) -> Admission:
        """Return the present state of the limits."""
        running = Counter(Subject.of(job) for job in jobs if job.state is JobState.RUNNING) if self._limits else {}
        return Admission(LimitSet(self._limits.values()), running, self._now(), self._buckets, time.monotonic())

    def spend(self, admission: Admission) -> None:
        """Keep the tokens that were taken."""
        for limit in self.all():
            if (full_at := admission.taken.get((limit.id, ""))) is not None:
                self._limits[limit.scope] = replace(limit, full_at=full_at)
        taken = {bucket: full_at for bucket, full_at in admission.taken.items() if bucket[1]}
        self._buckets = {bucket: at for bucket, at in (self._buckets | taken).items() if at > admission.now}
        self.note(LimitSet(self.all()), admission.next_token_seconds())

    def _change(
        self, scope: Scope, change: Change, action: Action, by: str, detail: str | None = None
    ) -> JobLimit | None:
        with self._lock:
            return self._keep(change(self._limits.get(scope, empty(scope)), self._now()))

    def _keep(self, limit: JobLimit) -> JobLimit | None:
        if not limit.has_buckets:
            self._buckets = {bucket: at for bucket, at in self._buckets.items() if bucket[0] != limit.id}
        if not limit.needed:
            self._limits.pop(limit.scope, None)
            return None
        if not limit.id:
            self._last_id += 1
            limit = replace(limit, id=self._last_id)
        self._limits[limit.scope] = limit
        return limit
