"""What several pages show: times, counts, notes, schedules with a problem, batches of a job. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.explain.groups import Group, oldest_of
from spoke_jobs.explain.limit_texts import LONG_PAUSE
from spoke_jobs.explain.words import ago, count, line, seconds, until
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.outbox.task_replicas import SIGN_SECONDS, TaskReplica
from spoke_jobs.ledger.reading.crowd_facts import Crowd
from spoke_jobs.ledger.reading.dashboard_queries import GROUPED, CappedCount
from spoke_jobs.web.job_search import address
from spoke_jobs.web.viewer import JobAction, Viewer

SYNC_IS_ACTIVE = "Sync is active."
NO_SYNC = "No sync is active: jobs that wait get no SpokeJob. Check that `spoke-jobs sync` runs."


@dataclass(frozen=True, slots=True)
class SyncSign:
    """What the database says of sync."""

    active: bool | None
    """Whether one is active; None if the database cannot tell."""
    since: datetime | None = None
    """Since when it has been connected; None if none is, or if the database does not tell this role."""


@dataclass(frozen=True, slots=True)
class When:
    """A time, and how far away it is."""

    exact: str
    """In UTC, to the second."""
    local: str
    """In the zone of `now`, which is the reader's."""
    machine: str
    """For the attribute `datetime`."""
    text: str

    @classmethod
    def of(cls, then: datetime, now: datetime) -> When:
        """Format a time in the past."""
        return cls._at(then, now, ago(then, now))

    @classmethod
    def planned(cls, then: datetime, now: datetime) -> When:
        """Format a time that is planned. It may have passed."""
        return cls._at(then, now, until(then, now) if then > now else ago(then, now))

    @classmethod
    def _at(cls, then: datetime, now: datetime, text: str) -> When:
        utc, local = then.astimezone(UTC), then.astimezone(now.tzinfo)
        return cls(f"{utc:%Y-%m-%d %H:%M:%S} UTC", f"{local:%Y-%m-%d %H:%M:%S %Z}", f"{utc:%Y-%m-%dT%H:%M:%SZ}", text)


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many jobs or tasks are in a state."""

    state: str
    number: str
    path: str
    """The address of their list."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list, the newest ones first."""

    items: tuple[object, ...]
    given: Mapping[str, str]
    """The filters as they were given, by their names in the address."""
    first: str
    """The address of the newest ones; empty if these are shown."""
    older: str
    """The address of the page with older ones; empty if there is none."""
    note: str = ""
    """Which ones were not looked at; empty if all were, or if the next page looks at them."""
    problem: str = ""
    """What is wrong with a filter."""


_SIGNS_MISSED = timedelta(seconds=4 * SIGN_SECONDS)


def has_died(replica: TaskReplica, now: datetime) -> bool:
    """Whether a replica of the task deployment should have given a sign since its last one."""
    return now - replica.seen_at > _SIGNS_MISSED


@dataclass(frozen=True, slots=True)
class GroupItem:
    """A group of jobs that wait or have failed for one reason."""

    number: str
    text: str
    oldest: str
    """For how long the oldest of them waits or is tried, and how long a pause has lasted that may be forgotten."""
    advice: str
    path: str
    """The jobs, or one of them; empty if they cannot be listed."""
    limit: str = ""
    """The scope of the pause or the limit that holds them back; empty if there is none that the viewer may see."""
    limit_path: str = ""
    """The address of its row."""
    message: str = ""
    """What one of the jobs says of its failure."""
    links: tuple[tuple[str, str], ...] = ()
    """Where the dashboard does what the advice says, or shows more: addresses and texts."""


def limit_id(scope: str) -> str:
    """Return the id of a limit's row on the page *Queues and limits*."""
    return f"limit-{hashlib.sha256(scope.encode(errors='replace')).hexdigest()[:16]}"


def limit_path(scope: str) -> str:
    """Return the address of that row."""
    return f"/queues#{limit_id(scope)}"


def form_path(scope: str, form: str) -> str:
    """Return the address of a form that then has a scope; empty if its field could not show the scope as it is.

    :param form: ``pause`` or ``limit``.
    """
    return f"{address('/queues', scope=scope)}#{form}" if line(scope) == scope else ""


def group_item(group: Group, now: datetime, viewer: Viewer | None = None, *, sees_limits: bool = False) -> GroupItem:
    """Describe a group of jobs.

    :param viewer: who gets links to what they may do; None for no links.
    :param sees_limits: whether the viewer may see limits, which concern the jobs of all organizations.
    """
    said = [oldest] if (oldest := oldest_of(group, now)) else []
    if group.tried_at is not None:
        said.append(f"the first attempt of the oldest began {ago(group.tried_at, now)}")
    since = group.wait.paused_since if group.wait is not None else None
    if since is not None and now - since >= LONG_PAUSE:
        said.append(f"paused for {seconds((now - since).total_seconds())}")
    path = f"/jobs/{group.job_id}" if group.job_id is not None else ""
    path = address("/jobs", **dict(group.where)) if group.where else path
    if group.state == "failed":
        which = {"type": only_type(group), "cause": group.reason, "fingerprint": group.fingerprint}
        path = address("/jobs", state="failed", **which)
    limit = group.scope if sees_limits else ""
    return GroupItem(
        f"{group.count:,}",
        group.text,
        "; ".join(said),
        line(group.advice),
        path,
        line(limit),
        limit_path(limit) if limit else "",
        group.message,
        tuple(_links(group, viewer)) if viewer is not None else (),
    )


def only_type(group: Group) -> str:
    """Return the type of a group's failed jobs; empty if they have several, or if a filter would read a pattern."""
    return "" if "*" in group.job_type else group.job_type


def _links(group: Group, viewer: Viewer) -> Iterable[tuple[str, str]]:
    if group.holder_id is not None:
        yield f"/jobs/{group.holder_id}", f"Job {group.holder_id}"
    if group.batch_id is not None:
        yield address("/batches", id=group.batch_id), f"Batch {group.batch_id}"
    elif group.state == "failed" and JobAction.RETRY in viewer.actions and group.reason != Cause.CANCELLED:
        which = {"type": only_type(group), "cause": group.reason, "fingerprint": group.fingerprint}
        yield address("/bulk/retry", **which), "Retry them (preview)"
    if group.name == WaitReason.WORKERS_BUSY and viewer.sees_all and group.advice:
        yield "/queues", "Queues and limits"


@dataclass(frozen=True, slots=True)
class ScheduleTrouble:
    """A schedule with a problem."""

    name: str
    path: str
    """The address of the page that shows it alone."""
    problem: str
    advice: str


@dataclass(frozen=True, slots=True)
class ScheduleTroubles:
    """The schedules with a problem, by name."""

    items: tuple[ScheduleTrouble, ...] = ()
    more: bool = False
    """Whether there may be more."""


NO_TROUBLES = ScheduleTroubles()


@dataclass(frozen=True, slots=True)
class BatchOfJob:
    """A batch that a job is in or follows."""

    relation: str
    path: str
    """The address of the page that shows the batch alone."""
    name: str
    progress: str


def batch_of_job(batch: Batch, job_id: int) -> BatchOfJob:
    """Describe a batch on the page of a job that is in it or follows it."""
    failed = f", {batch.failed:,} of them failed" if batch.failed else ""
    return BatchOfJob(
        "It follows" if batch.then_id == job_id else "It is in",
        address("/batches", id=batch.id),
        f"batch {batch.id} ({line(batch.name)})" if batch.name else f"batch {batch.id}",
        f"{batch.succeeded + batch.failed:,} of {count(batch.total, 'job')} ended{failed}",
    )


def capped(number: CappedCount) -> str:
    """Format a count: ``10,000+`` if there are more."""
    return f"{number.number:,}{'+' if number.more else ''}"


def failures_note(crowd: Crowd) -> list[str]:
    """Say that not all failed jobs were grouped; empty if they were."""
    if sum(each.count for each in crowd.failed) < GROUPED:
        return []
    return [f"Of the failed jobs, the {GROUPED:,} that failed last were grouped; there may be more."]
