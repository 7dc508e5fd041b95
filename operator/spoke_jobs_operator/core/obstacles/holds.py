"""The holds on admission that no limit causes: no room, refused or stuck pods, rejected Jobs, or an absent dependency.

:mod:`.admit` checks them last. Their state comes from each attempt that is reconciled, so a new leader rebuilds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.operator_state import PublishedHold
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs_operator.core.objects.api_objects import Key

from .dependency_hold import DependencyHolds
from .refusal_hold import RefusalHolds
from .rejection_hold import RejectionHolds
from .room import Group, Phase, Room, Sighting, bump
from .start_hold import StartHolds

REFUSALS = (WaitReason.QUOTA_EXCEEDED, WaitReason.WEBHOOK_AWAY)
"""The refusals of pods and Jobs that are not the job's fault, so that many jobs share them."""


class Holds:
    """The state of the holds, and the time at which they are checked.

    :param most_pending: see :class:`.Room`.
    :param now: the time to use until the first :meth:`tick`.
    """

    def __init__(self, most_pending: int, now: datetime) -> None:
        self.room = Room(most_pending)
        self.refusals = RefusalHolds()
        self.rejections = RejectionHolds()
        self.starts = StartHolds()
        self.dependencies = DependencyHolds()
        self.standby = FreeStandby()
        self.now = now

    def closed_in(self, namespace: str) -> bool:
        """Whether no SpokeJob of the namespace that needs a new pod can be admitted now."""
        return self.room.closed_in(namespace)

    def why(
        self,
        key: Key,
        group: Group,
        job_type: str,
        created_at: datetime,
        places: int | None = None,
        *,
        standby: bool = False,
    ) -> Wait | None:
        """Return why a SpokeJob is held; None if it is not.

        :param places: how many attempts the limits of the namespace and of the operator allow; None for no limit.
        :param standby: whether it may take a standby pod.
        """
        if (wait := self.dependencies.why(group.namespace, self.now)) is not None:
            return wait
        if standby and self.standby.has(group):
            return None
        return (
            self.refusals.why(group, self.now)
            or self.rejections.why(key, group, job_type)
            or self.starts.why(group, places, self.now)
            or self.room.why(group, created_at, self.now)
        )

    def admit(self, key: Key, group: Group, job_type: str, *, adopted: bool = False, standby: bool = False) -> None:
        """Count a SpokeJob that gets a Job.

        :param adopted: whether it has its Job already: an earlier leader or process admitted it.
        :param standby: whether it may take a standby pod.
        """
        if standby and not adopted and self.standby.has(group):
            self.release(key)
            self.rejections.forget(key)
            self.standby.take(key, group)
            self.dependencies.admit(key, self.now)
            return
        self.room.admit(key, group, self.now, adopted=adopted)
        self.refusals.admit(key, group, self.now, adopted=adopted)
        self.rejections.admit(key, group, job_type)
        self.starts.admit(key, group, self.now, adopted=adopted)
        if not adopted:
            self.dependencies.admit(key, self.now)

    def release(self, key: Key) -> None:
        """Stop counting a SpokeJob that has no attempt."""
        self.standby.release(key)
        self.room.release(key)
        self.refusals.release(key, self.now)
        self.rejections.release(key)
        self.starts.release(key, self.now)
        self.dependencies.release(key)

    def observe(self, key: Key, seen: Sighting) -> bool:
        """Record how far an attempt has come. Return whether it has come further, so that others may be admitted."""
        if seen.runs:
            self.dependencies.runs(key, seen.start_timeout, self.now)
        if (group := self.standby.got_none(key, seen)) is not None:
            self.room.admit(key, group, self.now, adopted=True)
            self.refusals.admit(key, group, self.now, adopted=True)
            self.starts.admit(key, group, self.now, adopted=True)
        further = self.room.observe(key, seen, self.now) | self.refusals.observe(key, seen, self.now)
        return further | self.rejections.accepted(key) | self.starts.observe(key, seen, self.now)

    def job_refused(self, group: Group, wait: Wait) -> None:
        """Record that a quota or a webhook refuses the Job of a SpokeJob, after the SpokeJob was released."""
        self.refusals.job_refused(group, wait, self.now)

    def rejected(self, key: Key, group: Group, job_type: str, wait: Wait) -> None:
        """Record that the API server rejects the Job of a SpokeJob, before the SpokeJob is released."""
        self.rejections.rejected(key, group, job_type, wait, self.now)

    def ended(self, key: Key, cause: str, *, recorded: bool = False) -> None:
        """Record how an attempt ended, before the SpokeJob is released.

        :param recorded: whether its process has recorded the end in the ledger.
        """
        self.starts.ended(key, cause)
        self.dependencies.ended(key, cause, self.now, answered=recorded)

    def resume(self, group: Group, wait: Wait) -> None:
        """Hold what an earlier leader held, as the status of a waiting SpokeJob shows."""
        if wait.code == WaitReason.DATABASE_AWAY:
            since = wait.since or self.now
            self.dependencies.resume(group.namespace, Cause.DATABASE_UNREACHABLE, since, self.now)
        elif wait.code in REFUSALS:
            self.refusals.resume(group, wait, self.now)

    def tick(self, now: datetime) -> bool:
        """Set the time, and apply it. Return whether others may be admitted because of it."""
        self.now = now
        return self.room.tick(now) | self.refusals.tick(now) | self.starts.tick(now) | self.dependencies.tick(now)

    def published(self, namespace: str) -> list[PublishedHold]:
        """Return the holds of a namespace."""
        found = self.room.published(namespace) + self.refusals.published(namespace)
        found += self.rejections.published(namespace) + self.starts.published(namespace)
        if (away := self.dependencies.of(namespace)) is not None:
            probing = away.probing
            found.append(
                PublishedHold(
                    reason=WaitReason.DATABASE_AWAY,
                    cause=away.cause,
                    since=away.since.isoformat(),
                    allowance=probing.allowance or None,
                    next_probe=None if probing.allowance else probing.next_probe.isoformat(),
                )
            )
        return found


class FreeStandby:
    """How many standby pods are free, and the SpokeJobs that were admitted to take one.

    The numbers may be out of date for a moment. A SpokeJob that finds no free standby pod then gets a pod of its own,
    and is counted as such.
    """

    def __init__(self) -> None:
        self._free: Counter[Group] = Counter()
        self._takers: dict[Key, Group] = {}

    def set_free(self, namespace: str, counts: Mapping[str, int]) -> bool:
        """Replace the numbers of a namespace. Return whether more are free than before.

        :param counts: how many are free, by PodTemplate.
        """
        new = Counter({Group(namespace, template): count for template, count in counts.items() if count})
        old = {group: count for group, count in self._free.items() if group.namespace == namespace}
        for group in old:
            del self._free[group]
        self._free.update(new)
        return any(count > old.get(group, 0) for group, count in new.items())

    def has(self, group: Group) -> bool:
        """Whether one is free for a SpokeJob of the group."""
        return group in self._free

    def any_in(self, namespace: str) -> bool:
        """Whether one is free in the namespace."""
        return any(group.namespace == namespace for group in self._free)

    def take(self, key: Key, group: Group) -> None:
        """Count a SpokeJob that is admitted to take one."""
        bump(self._free, group, -1)
        self._takers[key] = group

    def release(self, key: Key) -> None:
        """Forget a SpokeJob that has no attempt."""
        self._takers.pop(key, None)

    def got_none(self, key: Key, seen: Sighting) -> Group | None:
        """Return the group of a SpokeJob that got a pod of its own after all, and forget it; None of all others."""
        starts = seen.phase is not Phase.OTHER or seen.refused is not None or seen.stuck is not None
        return self._takers.pop(key, None) if starts else None
