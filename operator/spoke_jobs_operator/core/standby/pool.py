"""Decide which standby pods of one PodTemplate to create and to delete. Pure and level-triggered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from spoke_jobs.contract.causes import CauseClass, cause_class
from spoke_jobs.contract.standby import NO_ANSWER
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs_operator.core.diagnosis.obstacles import obstacle
from spoke_jobs_operator.core.diagnosis.pod_end import end_of
from spoke_jobs_operator.core.objects.api_objects import Job, Pod, Running, WarningEvent
from spoke_jobs_operator.core.objects.template_annotations import StandbyBounds

RETRIES = Backoff(base=5.0, maximum=300.0)
"""The waits after standby pods that ended before an attempt was assigned."""
_SPREAD = 0.2
"""The largest share by which a pod's age is shortened, so that those of one moment are not replaced at once."""
LATE = timedelta(seconds=60)
"""If no standby pod is ready for this time after the oldest was made, or was first asked, what hinders it is reported.
"""
LONGEST_START = timedelta(hours=1)
"""How much longer than the longest wait a standby pod may take until it is ready. Replacing it makes no start shorter.
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Member:
    """A standby pod without an attempt: its Job, and what is known of its pod."""

    job: Job
    pod: Pod | None = None
    ready: bool = False
    """Whether the pod has answered that it is free."""
    reserved: bool = False
    """Whether a SpokeJob's status names the Job, or is about to."""
    ours: bool = True
    """Whether this operator has the secret of the pod. Otherwise another leader, or somebody else, has made it."""
    asked_since: datetime | None = None
    """When this process first asked the pod whether it is free; None if it has not."""

    @property
    def ended(self) -> bool:
        """Whether its pod has ended or is ending, so that it takes no attempt any more."""
        gone = self.job.finished or self.job.failing or self.job.meta.deletion_at is not None
        return gone or (
            self.pod is not None and (self.pod.meta.deletion_at is not None or end_of(self.pod) is not None)
        )

    @property
    def runs(self) -> bool:
        """Whether its container runs, so that it may answer."""
        return not self.ended and self.pod is not None and isinstance(self.pod.container, Running) and bool(self.pod.ip)

    @property
    def answers(self) -> bool:
        """Whether its container runs on a node that answers."""
        return self.runs and self.pod is not None and not self.pod.node_silent

    @property
    def age_key(self) -> tuple[datetime, str]:
        """The sort key for age."""
        return self.job.meta.created_at or _EPOCH, self.job.meta.key.name

    def is_of(self, digest: str) -> bool:
        """Whether the Job was made from what a standby pod is made from now."""
        return self.job.standby is not None and self.job.standby.digest == digest


class Why(StrEnum):
    """Why a standby pod is deleted."""

    ENDED = "ended"
    CHANGED = "template_changed"
    """The PodTemplate has changed or is gone, or the operator makes other pods from it now."""
    UNKNOWN = "unknown_secret"
    """This operator can assign nothing to it."""
    OLD = "too_old"
    SURPLUS = "surplus"


@dataclass(frozen=True, slots=True)
class Removal:
    """A standby pod to delete."""

    job: Job
    why: Why


@dataclass(frozen=True, slots=True)
class Demand:
    """What a PodTemplate should have."""

    digest: str
    """What a standby pod is made from now; empty if the PodTemplate gets none."""
    wanted: int
    retry_at: datetime | None = None
    """When the next one may be created, after others ended."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do."""

    create: int = 0
    delete: tuple[Removal, ...] = ()
    check_at: datetime | None = None
    """When time alone changes the plan."""


def is_free(member: Member) -> bool:
    """Whether an attempt may be assigned to the pod."""
    return member.ready and member.ours and not member.reserved and member.answers


def plan(members: Sequence[Member], demand: Demand, now: datetime, max_age: timedelta) -> Plan:
    """Decide what to do about the standby pods of one PodTemplate.

    A pod that a SpokeJob's status names is never deleted.
    """
    removals = [Removal(item.job, Why.ENDED) for item in _ended_ones(members, demand.digest)]
    staying: list[Member] = []
    checks: list[datetime] = []
    for member in members:
        if member.ended or member.reserved:
            continue
        if (why := _why_replaced(member, demand.digest, now, max_age)) is not None:
            removals.append(Removal(member.job, why))
            continue
        staying.append(member)
        checks.append(_expires_at(member, now, max_age))
    # The surplus: those that have not started first, then those that expire first.
    staying.sort(key=lambda item: (item.ready, _expires_at(item, now, max_age), item.age_key))
    surplus = max(0, len(staying) - demand.wanted)
    removals += [Removal(item.job, Why.SURPLUS) for item in staying[:surplus]]
    missing = max(0, demand.wanted - len(staying)) if demand.digest else 0
    if missing and demand.retry_at is not None and now < demand.retry_at:
        checks.append(demand.retry_at)
        missing = 0
    return Plan(missing, tuple(removals), min(checks, default=None))


def _ended_ones(members: Sequence[Member], digest: str) -> list[Member]:
    """Return the ended ones to delete. The newest stays until another one is ready: people can read its output."""
    ended = [item for item in members if item.ended and not item.reserved]
    newest = max((item for item in ended if item.is_of(digest)), key=lambda item: item.age_key, default=None)
    keeps = newest is not None and not any(item.ready and not item.ended for item in members)
    return [item for item in ended if item.job.meta.deletion_at is None and not (keeps and item is newest)]


def failures(members: Sequence[Member]) -> list[Job]:
    """Return the Jobs of standby pods that never were ready, or that ended by themselves.

    One that was ready and ended because of its node is none: so all nodes can be drained in turn.
    """
    ended = (item for item in members if item.ended and not item.reserved and item.job.meta.deletion_at is None)
    return [item.job for item in ended if not item.ready or not _was_disrupted(item)]


def recovered_at(retry_at: datetime | None) -> datetime | None:
    """Return when those that are ready then are good: none has failed for the longest wait after the last one."""
    return None if retry_at is None else retry_at + timedelta(seconds=RETRIES.maximum)


def late_at(members: Sequence[Member]) -> datetime | None:
    """Return when it is late that no standby pod is ready; None if one is ready, or none starts.

    One that runs may be ready, and was not asked yet: a new leader finds those that the one before has made.
    """
    if any(item.ready and not item.ended for item in members):
        return None
    oldest = _oldest_that_starts(members)
    if oldest is None:
        return None
    since = oldest.asked_since if oldest.runs else oldest.job.meta.created_at or _EPOCH
    return None if since is None else since + LATE


def hindrance(members: Sequence[Member], events: Callable[[Member], Sequence[WarningEvent]], now: datetime) -> str:
    """Return what keeps standby pods from being ready: a cause, a reason to wait, or `NoAnswer`.

    Empty if one is ready, or if nothing but time is known to be missing.

    :param events: returns the Events about a standby pod and its Job.
    """
    late, oldest = late_at(members), _oldest_that_starts(members)
    if late is None or oldest is None or now < late:
        return ""
    if oldest.runs:
        return NO_ANSWER
    reason = obstacle(oldest.pod, events(oldest), now).reason
    return "" if reason == WaitReason.POD_PENDING else reason


def _oldest_that_starts(members: Sequence[Member]) -> Member | None:
    starting = (item for item in members if item.ours and not (item.ready or item.ended or item.reserved))
    return min(starting, key=lambda item: item.age_key, default=None)


def cause_of(member: Member) -> str:
    """Return why a standby pod ended, if that is known; else empty."""
    end = end_of(member.pod) if member.pod is not None else None
    return end.cause if end is not None else ""


def _was_disrupted(member: Member) -> bool:
    cause = cause_of(member)
    if not cause:  # the pod is gone: somebody has deleted it, or it was drained
        return True
    return cause_class(cause) is CauseClass.DISRUPTION


def _why_replaced(member: Member, digest: str, now: datetime, max_age: timedelta) -> Why | None:
    if not member.is_of(digest):
        return Why.CHANGED
    if not member.ours:
        return Why.UNKNOWN
    return Why.OLD if now >= _expires_at(member, now, max_age) else None


def _expires_at(member: Member, now: datetime, max_age: timedelta) -> datetime:
    share = hashlib.sha256(member.job.meta.key.name.encode()).digest()[0] / 255
    made = member.job.meta.created_at or now
    if not member.ready:
        return made + max_age + LONGEST_START
    # A slow pull of the image would otherwise take its time from it, and from that of each replacement, too.
    runs = member.pod.container if member.pod is not None else None
    since = runs.since if isinstance(runs, Running) else None
    return max(made, since or made) + max_age * (1 - _SPREAD * share)


WINDOW = timedelta(minutes=10)
"""How far back arrivals count. Pods that a burst needed are kept for this long."""
FIRST_LEAD = timedelta(seconds=10)
"""How long a standby pod is expected to take to be ready, before one has been."""
LONGEST_LEAD = timedelta(minutes=2)


def lead_time(starts: Iterable[timedelta]) -> timedelta:
    """Return how long a standby pod takes to be ready: the longest of the recent starts, within bounds.

    The clock of the API server, which says when a pod was created, may be ahead of the operator's.
    """
    return min(max(max(starts, default=FIRST_LEAD), timedelta()), LONGEST_LEAD)


def wanted(bounds: StandbyBounds, arrivals: Iterable[datetime], lead: timedelta, now: datetime) -> int:
    """Return how many standby pods should wait.

    While a used pod is replaced, the attempts that arrive use others. So the number is that of the attempts that
    arrived within the time of one replacement, in the busiest such time of the last minutes. If the same arrivals come
    again, each finds a pod.

    :param arrivals: when attempts came that could use a standby pod, whether or not one was free.
    :param lead: how long a standby pod takes to be ready.
    """
    recent = sorted(moment for moment in arrivals if now - WINDOW < moment <= now)
    busiest, first = 0, 0
    for last, moment in enumerate(recent):
        while moment - recent[first] > lead:
            first += 1
        busiest = max(busiest, last - first + 1)
    return min(max(bounds.minimum, busiest), bounds.maximum)
