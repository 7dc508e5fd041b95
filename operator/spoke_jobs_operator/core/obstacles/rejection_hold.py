"""Hold admission of a PodTemplate whose Jobs the API server rejects, because of a policy or an invalid value.

The same Job would be rejected again, so each rejected SpokeJob ends at its start timeout. Until then it is tried again
at growing intervals, at least once a minute. Without a bound, thousands of waiting SpokeJobs would do so. So only some
of a PodTemplate's SpokeJobs are tried, and the others wait. Those that are tried again show when the obstacle is gone:
each Job that the API server accepts lets one more SpokeJob be tried.

A policy may reject only some Jobs of a PodTemplate, for example by their labels. So the bound is lower for each job
type, and the SpokeJobs of other types are still tried.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from spoke_jobs.contract.operator_state import PublishedHold
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs_operator.core.objects.api_objects import Key

from .room import Group, bump, of_namespace, pods_not_starting, published_not_starting

OF_A_TYPE = 10
"""The most SpokeJobs of a PodTemplate and a job type that are rejected or being tried."""
OF_A_TEMPLATE = 50
"""The same, for all job types together."""


@dataclass(slots=True)
class _Rejected:
    """A PodTemplate some of whose Jobs are rejected."""

    since: datetime
    newest: Wait
    """What the API server said last."""
    waits: dict[Key, Wait] = field(default_factory=dict)
    """The SpokeJobs whose Job was rejected, and that are tried again."""
    tried: set[Key] = field(default_factory=set)
    """The SpokeJobs that were admitted since, and whose Job is not created yet."""
    by_type: Counter[str] = field(default_factory=Counter)
    """How many of both there are."""
    accepted: Counter[str] = field(default_factory=Counter)
    """How many Jobs were accepted since."""

    def has_room(self, job_type: str) -> bool:
        """Whether one more SpokeJob of the type may be tried."""
        return (
            self.by_type[job_type] < OF_A_TYPE + self.accepted[job_type]
            and self.by_type.total() < OF_A_TEMPLATE + self.accepted.total()
        )


class RejectionHolds:
    """The SpokeJobs whose Jobs are rejected, and their PodTemplates."""

    def __init__(self) -> None:
        self._types: dict[Key, tuple[Group, str]] = {}
        self._groups: dict[Group, _Rejected] = {}

    def why(self, key: Key, group: Group, job_type: str) -> Wait | None:
        """Return why the SpokeJob may not be tried now; None if it may. A rejected one may be tried again."""
        found = self._groups.get(group)
        if found is None or key in found.waits or found.has_room(job_type):
            return None
        return pods_not_starting(found.newest, len(found.waits), found.since)

    def admit(self, key: Key, group: Group, job_type: str) -> None:
        """Count a SpokeJob that is tried."""
        self._forget_earlier(key, group, job_type)
        found = self._groups.get(group)
        if found is None:
            return
        if found.waits.pop(key, None) is None:
            bump(found.by_type, job_type, 1)
        found.tried.add(key)
        self._types[key] = (group, job_type)

    def accepted(self, key: Key) -> bool:
        """Record that the SpokeJob has a Job. Return whether others may be tried because of it."""
        group, job_type = self._types.get(key, (None, ""))
        if group is None:
            return False
        self._groups[group].accepted[job_type] += 1
        self._leave(key)
        return True

    def rejected(self, key: Key, group: Group, job_type: str, wait: Wait, now: datetime) -> None:
        """Record that the API server rejects the SpokeJob's Job, and that it is tried again."""
        self._forget_earlier(key, group, job_type)
        found = self._groups.setdefault(group, _Rejected(now, wait))
        if key not in found.waits and key not in found.tried:
            bump(found.by_type, job_type, 1)
        found.tried.discard(key)
        if found.waits.get(key) != wait:
            found.waits[key] = found.newest = wait
        self._types[key] = (group, job_type)

    def forget(self, key: Key) -> bool:
        """Forget a SpokeJob that has ended, or that waits for something else. Return whether others may be tried."""
        if key not in self._types:
            return False
        self._leave(key)
        return True

    def release(self, key: Key) -> None:
        """Forget a SpokeJob that has lost its place before its Job was created."""
        group, _ = self._types.get(key, (None, ""))
        if group is not None and key in self._groups[group].tried:
            self._leave(key)

    def waits(self, key: Key) -> bool:
        """Whether the SpokeJob's Job was rejected, and it waits to be tried again."""
        group, _ = self._types.get(key, (None, ""))
        return group is not None and key in self._groups[group].waits

    def published(self, namespace: str) -> list[PublishedHold]:
        """Return the PodTemplates of a namespace."""
        return [
            published_not_starting(group, found.waits.values(), found.since)
            for group, found in of_namespace(self._groups, namespace)
            if found.waits
        ]

    def _forget_earlier(self, key: Key, group: Group, job_type: str) -> None:
        """Forget a SpokeJob of the same name that was deleted, and whose deletion nobody has seen."""
        if self._types.get(key, (group, job_type)) != (group, job_type):
            self._leave(key)

    def _leave(self, key: Key) -> None:
        group, job_type = self._types.pop(key)
        found = self._groups[group]
        found.waits.pop(key, None)
        found.tried.discard(key)
        bump(found.by_type, job_type, -1)
        if not found.waits and not found.tried:
            del self._groups[group]
