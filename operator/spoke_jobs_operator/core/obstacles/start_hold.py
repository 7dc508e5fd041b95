"""Hold admission of a PodTemplate whose pods can't start for a reason of their own, such as a wrong image.

A stuck pod keeps its place under the limits, and often its room on a node, until its start timeout. Without a bound,
the jobs of one PodTemplate could take all of them. So while pods of a PodTemplate are stuck, few of its pods may be
stuck or starting. Kubernetes itself tries stuck pods again. Once any pod of the PodTemplate runs, those that are stuck
by then no longer count, and admission is open again.

The jobs of a PodTemplate may differ, for example in the resources that they request. So one attempt more is tried each
minute: if it runs, only the stuck ones are at fault.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from spoke_jobs.contract.operator_state import PublishedHold
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs_operator.core.objects.api_objects import Key

from .dependency_hold import is_dependency, shows_an_answer
from .room import Group, Phase, Sighting, of_namespace, pods_not_starting, published_not_starting

MOST = 20
"""While pods of a PodTemplate are stuck, so many of its pods may be stuck or starting."""
SHARE = 4
"""They take at most this part of the places that a limit on running jobs allows, so that others have the rest."""
PROBE_AFTER = timedelta(seconds=60)
"""One attempt more may start if none has started or got stuck for this time."""
REMEMBERED = timedelta(minutes=10)
"""How long the bound applies after the last stuck attempt has ended. Otherwise many would take its place at once."""


class _Stage(Enum):
    """How far an attempt has come."""

    STARTING = "starting"
    STUCK = "stuck"
    """Its pod can't start, and that is not for lack of room or of a quota."""
    RUNS = "runs"
    OTHER = "other"
    """Somebody else lets its pod start (Kueue, the owner of a scheduling gate, an init container, the return of a lost
    node), or it ends."""


@dataclass(slots=True)
class _Attempt:
    group: Group
    adopted: bool
    """Whether it was not seen starting: an earlier leader or process started it, maybe long ago."""
    stage: _Stage = _Stage.STARTING


@dataclass(slots=True)
class _Pods:
    """The pods of a group that do not run."""

    probe_at: datetime
    """When one attempt more may start although the group is held."""
    starting: int = 0
    stuck: dict[Key, Wait] = field(default_factory=dict)
    """Those that are stuck since the last pod of the group has started to run, in the order in which they got stuck."""
    since: datetime | None = None
    """When the first of them got stuck; None if none has."""
    newest: Wait | None = None
    """Why the last of them got stuck."""
    ended_at: datetime | None = None
    """When the last of them ended, if the group has no other."""

    def allows(self, places: int | None, now: datetime) -> bool:
        """Whether one attempt more may start."""
        most = MOST if places is None else max(1, min(MOST, places // SHARE))
        count = len(self.stuck) + self.starting
        if self.since is None or count < most:
            return True
        return now >= self.probe_at and count < most + max(1, most // 2)


class StartHolds:
    """The attempts, and the groups with stuck pods."""

    def __init__(self) -> None:
        self._attempts: dict[Key, _Attempt] = {}
        self._groups: dict[Group, _Pods] = {}
        self._ticked: datetime | None = None

    def why(self, group: Group, places: int | None, now: datetime) -> Wait | None:
        """Return why no attempt of the group may start now; None if one may.

        :param places: how many attempts the limits of the namespace and of the operator allow; None for no limit.
        """
        pods = self._groups.get(group)
        if pods is None or pods.newest is None or pods.allows(places, now):
            return None
        return pods_not_starting(pods.newest, len(pods.stuck), pods.since)

    def admit(self, key: Key, group: Group, now: datetime, *, adopted: bool = False) -> None:
        """Count an attempt that starts.

        :param adopted: whether it has its Job already.
        """
        self.release(key, now)
        self._attempts[key] = _Attempt(group, adopted)
        pods = self._groups.setdefault(group, _Pods(now + PROBE_AFTER))
        pods.starting += 1
        if not adopted:
            pods.probe_at = now + PROBE_AFTER

    def release(self, key: Key, now: datetime) -> None:
        """Forget a SpokeJob that has no attempt."""
        if (attempt := self._attempts.pop(key, None)) is not None:
            self._leave(key, attempt, now)
            self._drop_if_empty(attempt.group)

    def observe(self, key: Key, seen: Sighting, now: datetime) -> bool:
        """Record how far an attempt has come. Return whether others may be admitted because of it."""
        attempt, stage = self._attempts.get(key), _stage(seen)
        if attempt is None:
            return False
        ran = stage is _Stage.RUNS and self._has_run(attempt)
        attempt.adopted = False
        if attempt.stage is stage:
            return ran
        self._leave(key, attempt, now)
        attempt.stage = stage
        pods = self._groups.setdefault(attempt.group, _Pods(now + PROBE_AFTER))
        if stage is _Stage.STARTING:
            pods.starting += 1
        elif stage is _Stage.STUCK and seen.stuck is not None:
            pods.since, pods.ended_at = pods.since or now, None
            pods.stuck[key] = pods.newest = seen.stuck
            pods.probe_at = now + PROBE_AFTER
        self._drop_if_empty(attempt.group)
        return ran or stage is not _Stage.STUCK

    def ended(self, key: Key, cause: str) -> None:
        """Record how an attempt ended; an empty cause is a success. It may have ended before it was seen running."""
        attempt = self._attempts.get(key)
        if attempt is not None and (is_dependency(cause) or shows_an_answer(cause)):
            self._has_run(attempt)

    def tick(self, now: datetime) -> bool:
        """Apply the time to each group. Return whether an attempt may start because of it."""
        before, self._ticked = self._ticked, now
        found = False
        for group, pods in list(self._groups.items()):
            if pods.since is None:
                continue
            if pods.ended_at is not None and now - pods.ended_at >= REMEMBERED:
                pods.since = pods.ended_at = None
                self._drop_if_empty(group)
                found = True
            elif pods.probe_at <= now and (before is None or before < pods.probe_at):
                found = True
        return found

    def published(self, namespace: str) -> list[PublishedHold]:
        """Return the groups of a namespace with stuck pods."""
        return [
            published_not_starting(group, pods.stuck.values(), pods.since)
            for group, pods in of_namespace(self._groups, namespace)
            if pods.stuck and pods.since
        ]

    def _has_run(self, attempt: _Attempt) -> bool:
        """Let those that are stuck no longer count, since a pod of their group has started to run.

        Return whether others may be admitted because of it.
        """
        pods = self._groups.get(attempt.group)
        if pods is None or pods.since is None or attempt.adopted or attempt.stage is _Stage.RUNS:
            return False
        pods.stuck.clear()
        pods.since = pods.ended_at = None
        self._drop_if_empty(attempt.group)
        return True

    def _leave(self, key: Key, attempt: _Attempt, now: datetime) -> None:
        pods = self._groups.get(attempt.group)
        if pods is None:
            return
        if attempt.stage is _Stage.STARTING:
            pods.starting -= 1
        if pods.stuck.pop(key, None) is not None and not pods.stuck:
            pods.ended_at = now

    def _drop_if_empty(self, group: Group) -> None:
        pods = self._groups.get(group)
        if pods is not None and not pods.starting and pods.since is None:
            del self._groups[group]


def _stage(seen: Sighting) -> _Stage:
    if seen.runs:
        return _Stage.RUNS
    if seen.stuck is not None:
        return _Stage.STUCK
    starting = seen.phase is not Phase.OTHER or seen.refused is not None
    return _Stage.STARTING if starting else _Stage.OTHER
