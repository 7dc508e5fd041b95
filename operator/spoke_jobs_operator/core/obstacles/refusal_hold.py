"""Hold admission while pods or Jobs are refused, and let in as room appears.

A ResourceQuota refuses them, or an admission webhook that does not answer. Pods of one PodTemplate are a group, since
they request the same resources, and the same scopes of a quota and the same selectors of a webhook cover them. A group
is held from its first refusal. From then on, the number of its pods that exist shows how many fit, and an attempt that
ends makes room for another one.

An attempt whose pod is refused keeps its Job. The Job controller tries again by itself, at least once a minute. Later
attempts could take every free place before that. So up to half of the places are kept for refused attempts, and all of
them while ten or more are refused. If no refused attempt takes a free place within :data:`PATIENCE`, the refused ones
need more than that place, and other attempts may take it.

When all places are used, single attempts probe for more room, at growing intervals. An attempt that gets a pod beyond
the known number lets one more start, so that admission opens ever faster after a quota is raised or a webhook is back.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from spoke_jobs.contract.operator_state import PublishedHold, PublishedQuota
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs_operator.core.objects.api_objects import Key

from .probing import FORGOTTEN, Probing
from .room import Group, Phase, Sighting, bump, of_namespace

PATIENCE = timedelta(seconds=90)
"""Longer than the Job controller waits before it creates a refused pod again, which is 60 s at most."""
MOST_REFUSED = 10
"""While so many pods of a group are refused, no attempt probes, and all places are kept for them."""


class _Stage(Enum):
    """How far an attempt has come, as far as refusals are concerned."""

    CREATED = "created"
    """Its Job has just been created, or will be."""
    FITS = "fits"
    """It has a pod."""
    REFUSED = "refused"
    """A quota or a webhook refuses its pod."""
    OTHER = "other"
    """It has no pod, for another reason."""


@dataclass(slots=True)
class _Attempt:
    group: Group
    since: datetime
    stage: _Stage = _Stage.CREATED


@dataclass(slots=True)
class _Hold:
    wait: Wait
    since: datetime
    refused_at: datetime
    """When a pod or Job was last refused."""
    probing: Probing
    """Its allowance is the number of attempts that may start beyond :attr:`fits`."""
    fits: int = 0
    """The most attempts that had a pod at a time since the last refusal."""
    free_since: datetime | None = None
    """Since when refused attempts leave a place free, or the group has no pod at all."""
    passed: bool = False
    """Whether refused attempts do not fit, so that no place is kept for them."""


class RefusalHolds:
    """The attempts, and the groups whose pods or Jobs are refused."""

    def __init__(self) -> None:
        self._attempts: dict[Key, _Attempt] = {}
        self._counts: Counter[tuple[Group, _Stage]] = Counter()
        self._holds: dict[Group, _Hold] = {}

    def why(self, group: Group, now: datetime) -> Wait | None:
        """Return why no attempt of the group may start now; None if one may."""
        hold = self._holds.get(group)
        if hold is None or self._places(group, hold) > 0 or self._may_probe(group, hold, now):
            return None
        return replace(hold.wait, since=hold.since)

    def resume(self, group: Group, wait: Wait, now: datetime) -> None:
        """Hold a group that an earlier leader held."""
        known = replace(wait, since=None, retry_at=None, position=None)
        self._holds.setdefault(group, _Hold(known, wait.since or now, now, Probing(now)))

    def admit(self, key: Key, group: Group, now: datetime, *, adopted: bool = False) -> None:
        """Count an attempt that starts. If there is no place for it, it is a probe.

        :param adopted: whether it has its Job already, so that it is no probe.
        """
        self.release(key, now)
        hold = self._holds.get(group)
        if hold is not None and not adopted and self._places(group, hold) <= 0:
            hold.probing = hold.probing.started(now)
            hold.free_since = None
        self._attempts[key] = _Attempt(group, now)
        self._count(group, _Stage.CREATED, 1, now)

    def release(self, key: Key, now: datetime) -> None:
        """Forget a SpokeJob that has no attempt."""
        if (attempt := self._attempts.pop(key, None)) is not None:
            self._count(attempt.group, attempt.stage, -1, now)

    def job_refused(self, group: Group, wait: Wait, now: datetime) -> None:
        """Hold a group of which the API server refuses a Job. Its attempt was released before."""
        self._refused(group, wait, now)

    def observe(self, key: Key, seen: Sighting, now: datetime) -> bool:
        """Record how far an attempt has come. Return whether others may be admitted because of it."""
        attempt, stage = self._attempts.get(key), _stage(seen)
        if attempt is None or attempt.stage is stage:
            return False
        before, attempt.stage = attempt.stage, stage
        self._count(attempt.group, before, -1, now)
        self._count(attempt.group, stage, 1, now)
        if stage is _Stage.REFUSED and seen.refused is not None:
            self._refused(attempt.group, seen.refused, now)
        elif stage is _Stage.FITS and (hold := self._holds.get(attempt.group)) is not None:
            self._fits(attempt, hold, was_refused=before is _Stage.REFUSED)
        return True

    def tick(self, now: datetime) -> bool:
        """Apply the time to each hold. Return whether an attempt may start because of it."""
        held = len(self._holds)
        for group, hold in list(self._holds.items()):
            refused = self._counts[group, _Stage.REFUSED]
            if hold.free_since is not None and now - hold.free_since >= PATIENCE:
                hold.passed = True
            opened = hold.probing.is_over or now - hold.refused_at >= FORGOTTEN
            if opened and not refused:
                del self._holds[group]
        return len(self._holds) < held or any(self._may_probe(*item, now) for item in self._holds.items())

    def published(self, namespace: str) -> list[PublishedHold]:
        """Return the holds of a namespace."""
        return [
            PublishedHold(
                reason=hold.wait.code,
                template=group.template,
                **(_quota(hold.wait) if hold.wait.code == WaitReason.QUOTA_EXCEEDED else {}),
                since=hold.since.isoformat(),
                fits=hold.fits,
                refused=self._counts[group, _Stage.REFUSED],
            )
            for group, hold in of_namespace(self._holds, namespace)
        ]

    def _places(self, group: Group, hold: _Hold) -> int:
        """Return how many attempts may start because there is room for them."""
        refused = 0 if hold.passed else self._counts[group, _Stage.REFUSED]
        kept = hold.fits if refused >= MOST_REFUSED else min(refused, (hold.fits + 1) // 2)
        return hold.fits - kept + hold.probing.allowance - self._in_use(group)

    def _may_probe(self, group: Group, hold: _Hold, now: datetime) -> bool:
        refused = self._counts[group, _Stage.REFUSED]
        if not hold.probing.is_due(now) or self._counts[group, _Stage.CREATED]:
            return False
        return not refused or (hold.passed and refused < MOST_REFUSED)

    def _in_use(self, group: Group) -> int:
        return self._counts[group, _Stage.FITS] + self._counts[group, _Stage.CREATED]

    def _refused(self, group: Group, wait: Wait, now: datetime) -> None:
        fits = self._counts[group, _Stage.FITS]
        hold = self._holds.get(group)
        if hold is None:
            hold = self._holds[group] = _Hold(wait, now, now, Probing.begun(now))
        elif wait.object or wait.code == WaitReason.WEBHOOK_AWAY:  # later messages about a quota may say less
            hold.wait = wait
        hold.refused_at, hold.fits, hold.probing = now, fits, hold.probing.held_again(now)
        hold.passed, hold.free_since = False, None
        self._note_free(group, hold, now)

    def _fits(self, attempt: _Attempt, hold: _Hold, *, was_refused: bool) -> None:
        if was_refused:
            hold.passed = False
        fits = self._counts[attempt.group, _Stage.FITS]
        if fits <= hold.fits:
            return
        hold.fits = fits
        if was_refused or attempt.since > hold.refused_at:  # otherwise it had its pod before
            hold.probing = hold.probing.opened()

    def _note_free(self, group: Group, hold: _Hold, now: datetime) -> None:
        """Note since when a place is free that no refused attempt takes."""
        free = self._in_use(group) < max(hold.fits, 1)
        if not self._counts[group, _Stage.REFUSED] or not free:
            hold.free_since = None
        elif hold.free_since is None:
            hold.free_since = now

    def _count(self, group: Group, stage: _Stage, by: int, now: datetime) -> None:
        bump(self._counts, (group, stage), by)
        if (hold := self._holds.get(group)) is not None:
            self._note_free(group, hold, now)


def _quota(wait: Wait) -> dict[str, Any]:
    return {"quota": wait.object, "resources": tuple(PublishedQuota(**asdict(use)) for use in wait.quota)}


def _stage(seen: Sighting) -> _Stage:
    if seen.has_pod:
        return _Stage.FITS
    if seen.refused is not None:
        return _Stage.REFUSED
    return _Stage.CREATED if seen.phase is Phase.NO_NODE else _Stage.OTHER
