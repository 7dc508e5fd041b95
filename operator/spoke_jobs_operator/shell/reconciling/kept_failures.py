"""Limit how many Jobs of failed attempts are kept in each namespace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.reconciling.actions import KeptJob


class KeptFailures:
    """The kept Jobs, as the last decisions on their SpokeJobs reported them.

    After a restart, the process learns of the kept Jobs as it reconciles the SpokeJobs.

    :param most: the most Jobs that are kept in a namespace.
    :param wake: called for each SpokeJob that has to delete a Job.
    """

    def __init__(self, most: int, wake: Callable[[Key], None]) -> None:
        self._most = most
        self._wake = wake
        self._kept: defaultdict[str, dict[Key, tuple[KeptJob, ...]]] = defaultdict(dict)
        self._surplus: dict[Key, frozenset[str]] = {}

    def surplus(self, key: Key) -> frozenset[str]:
        """Return the uids of the SpokeJob's Jobs to delete."""
        return self._surplus.get(key, frozenset())

    def update(self, key: Key, kept: tuple[KeptJob, ...]) -> None:
        """Replace what is known of a SpokeJob's kept Jobs, and wake the SpokeJobs whose Jobs are now too many."""
        here = self._kept[key.namespace]
        if here.get(key, ()) == kept:
            return
        if kept:
            here[key] = kept
        else:
            here.pop(key, None)
        self._surplus.pop(key, None)
        jobs = sorted((job.ended_at, job.uid, owner) for owner, own in here.items() for job in own)
        too_many: defaultdict[Key, set[str]] = defaultdict(set)
        for _, uid, owner in jobs[: max(0, len(jobs) - self._most)]:
            too_many[owner].add(uid)
        for owner, uids in too_many.items():
            self._surplus[owner] = frozenset(uids)
            self._wake(owner)
        if not here:
            del self._kept[key.namespace]
