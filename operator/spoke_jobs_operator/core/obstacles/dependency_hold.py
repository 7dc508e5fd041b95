"""Hold admission in a namespace while its attempts end because a dependency is away, such as the database.

After such ends of :data:`ENDS` SpokeJobs within a minute, single attempts probe the dependency, at growing intervals.
Once an attempt reaches the dependency, the others follow gradually: each attempt that reaches it lets two more start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from spoke_jobs.contract.causes import Cause, CauseClass, cause_class
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs_operator.core.objects.api_objects import Key

from .probing import FORGOTTEN, Probing

ENDS = 3
WITHIN = timedelta(seconds=60)
"""If attempts of :data:`ENDS` SpokeJobs end in this way within this time, admission is held. One SpokeJob alone holds
nobody, because its pods may say that the dependency is away although it is not."""
PROVEN_AFTER = timedelta(seconds=60)
"""An attempt that runs for its start timeout and this time has reached the dependency: otherwise its process would have
given up."""
SLOW_START = timedelta(seconds=60)
"""An attempt whose container does not run after this time delays no other: its pod may wait for room for hours."""
_SILENT_CLASSES = {CauseClass.IMAGE, CauseClass.INFRASTRUCTURE, CauseClass.DISRUPTION, CauseClass.TIMEOUT}
_SILENT_CAUSES = {
    Cause.INIT_FAILED,
    Cause.CANCELLED,
    Cause.PREEMPTED,
    Cause.TEMPLATE_CHANGED,
    Cause.STANDBY_LOST,
    Cause.INVALID_SPEC,
    Cause.NAME_TAKEN,
    Cause.SPOKE_JOB_DELETED,
}
"""Causes of these classes, and these causes, do not show whether the dependency answers: an attempt may end with them
before its process has connected."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """An attempt that was admitted during a hold and has not reached the dependency yet."""

    key: Key
    admitted_at: datetime
    proven_at: datetime | None = None
    """When it will have reached the dependency if it still runs; None until its container runs."""

    def may_prove_soon(self, now: datetime) -> bool:
        """Whether its container runs, or may be about to."""
        return self.proven_at is not None or now - self.admitted_at < SLOW_START


@dataclass(frozen=True, slots=True)
class Away:
    """A namespace whose dependency is away, or has just come back."""

    since: datetime
    cause: str
    probing: Probing
    """Its allowance is the number of attempts that may run and have not reached the dependency yet."""
    unproven: tuple[Unproven, ...] = ()

    def may_start(self, now: datetime) -> bool:
        """Whether one more attempt may start."""
        if not self.probing.allowance:
            return self.probing.is_due(now)
        return sum(item.may_prove_soon(now) for item in self.unproven) < self.probing.allowance

    def started(self, key: Key, now: datetime) -> Away:
        """Count an attempt that starts. While the dependency is away, it is a probe."""
        later = replace(self, unproven=(*self.without(key).unproven, Unproven(key, now)))
        return later if self.probing.allowance else replace(later, probing=self.probing.started(now))

    def failed(self, key: Key, now: datetime) -> Away:
        """Hold again after an attempt that did not reach the dependency. Others may have started before it was away."""
        if not self.has(key):
            return self
        left = self.without(key)
        return replace(left, probing=self.probing.held_again(now)) if self.probing.allowance else left

    def got_through(self, key: Key) -> Away | None:
        """Let more attempts start after one that reached the dependency; None if admission is open again."""
        if self.probing.allowance and not self.has(key):
            return self
        probing = self.probing.opened(1 if self.probing.allowance else 2)
        return None if probing.is_over else replace(self.without(key), probing=probing)

    def has(self, key: Key) -> bool:
        """Whether the attempt was admitted during the hold."""
        return any(item.key == key for item in self.unproven)

    def runs(self, key: Key, proven_at: datetime) -> Away:
        """Record that the container of an attempt runs; later calls for the same attempt change nothing."""
        known = (
            replace(item, proven_at=proven_at) if item.key == key and item.proven_at is None else item
            for item in self.unproven
        )
        return replace(self, unproven=tuple(known))

    def proven(self, now: datetime) -> list[Key]:
        """Return the attempts that have run for long enough."""
        return [item.key for item in self.unproven if item.proven_at is not None and now >= item.proven_at]

    def without(self, key: Key) -> Away:
        """Forget an attempt that has ended."""
        return replace(self, unproven=tuple(item for item in self.unproven if item.key != key))


def is_dependency(cause: str) -> bool:
    """Whether an attempt ended because a dependency was away."""
    return cause_class(cause) is CauseClass.DEPENDENCY


def shows_an_answer(cause: str) -> bool:
    """Whether an attempt that ended in this way has reached the dependency; an empty cause is a success."""
    return not cause or (cause not in _SILENT_CAUSES and cause_class(cause) not in _SILENT_CLASSES)


class DependencyHolds:
    """The namespaces whose dependency is away."""

    def __init__(self) -> None:
        self._away: dict[str, Away] = {}
        self._ends: dict[str, dict[Key, datetime]] = {}

    def of(self, namespace: str) -> Away | None:
        """Return a namespace's hold, if there is one."""
        return self._away.get(namespace)

    def resume(self, namespace: str, cause: str, since: datetime, now: datetime) -> None:
        """Hold a namespace that an earlier leader held. Of several times, the latest counts: others are of the past."""
        known = self._away.get(namespace)
        if known is None or known.since < since:
            self._away[namespace] = Away(since, cause, Probing(now, in_a_row=0))

    def why(self, namespace: str, now: datetime) -> Wait | None:
        """Return why no attempt may start in the namespace now; None if one may."""
        away = self._away.get(namespace)
        if away is None or away.may_start(now):
            return None
        return Wait(WaitReason.DATABASE_AWAY, since=away.since)

    def admit(self, key: Key, now: datetime) -> None:
        """Count an attempt that starts."""
        if (away := self._away.get(key.namespace)) is not None:
            self._away[key.namespace] = away.started(key, now)

    def runs(self, key: Key, start_timeout: float, now: datetime) -> None:
        """Record that the container of an attempt runs.

        :param start_timeout: for how many seconds its process waits for the dependency.
        """
        away = self._away.get(key.namespace)
        if away is not None and away.has(key):
            self._away[key.namespace] = away.runs(key, now + timedelta(seconds=start_timeout) + PROVEN_AFTER)

    def release(self, key: Key) -> None:
        """Forget a SpokeJob that has no attempt. Its attempt's end was recorded before, by `ended`."""
        if (away := self._away.get(key.namespace)) is not None:
            self._away[key.namespace] = away.without(key)

    def ended(self, key: Key, cause: str, now: datetime, *, answered: bool = False) -> None:
        """Record how an attempt ended; an empty cause is a success. The same end may be recorded twice.

        :param answered: whether the dependency answered at the end. A job may also fail
            because of a database that is not the ledger's.
        """
        away = self._away.get(key.namespace)
        if answered or not is_dependency(cause):
            if away is not None and (answered or shows_an_answer(cause)):
                self._store(key.namespace, away.got_through(key))
        elif away is not None:
            self._away[key.namespace] = away.failed(key, now)
        else:
            self._count(key, cause, now)

    def tick(self, now: datetime) -> bool:
        """Apply the time to each hold. Return whether a namespace may start an attempt now."""
        held = len(self._away)
        for namespace, away in list(self._away.items()):
            if not away.unproven and now - away.probing.next_probe >= FORGOTTEN:
                del self._away[namespace]
            for key in away.proven(now):
                current = self._away.get(namespace)
                if current is not None:
                    self._store(namespace, current.got_through(key))
        self._ends = {name: ends for name, ends in self._ends.items() if now - max(ends.values()) < WITHIN}
        return len(self._away) < held or any(away.may_start(now) for away in self._away.values())

    @property
    def remembered(self) -> int:
        """The number of namespaces whose recent ends are remembered, although they are not held."""
        return len(self._ends)

    def _count(self, key: Key, cause: str, now: datetime) -> None:
        known = self._ends.get(key.namespace, {})
        ends = {other: at for other, at in known.items() if now - at < WITHIN} | {key: now}
        if len(ends) < ENDS:
            self._ends[key.namespace] = ends
            return
        self._ends.pop(key.namespace, None)
        self._away[key.namespace] = Away(now, cause, Probing.begun(now))

    def _store(self, namespace: str, away: Away | None) -> None:
        if away is None:
            del self._away[namespace]
        else:
            self._away[namespace] = away
