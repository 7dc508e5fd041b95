"""Decide which groups of failed jobs a notice reports, and when. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from spoke_jobs.ledger.notices.notice_values import FailedRun, FailureGroup, GroupName, Mute, UnreportedGroups

MOST_GROUPS = 20
"""The most groups of one notice."""
MOST_UNCONFIRMED = 50
"""While so many notices wait for a receiver, no further ones are made for it."""


class NoticeKind(StrEnum):
    """Which groups a notice is about."""

    NEW = "new"
    """Groups that were not known."""
    DIGEST = "digest"
    """Known groups with further failures."""
    TEST = "test"
    """None: somebody tries out the receivers."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When a channel reports."""

    period: timedelta = timedelta(hours=1)
    """The shortest time between two digests. The first one comes when a group's last notice is so old, and has all
    known groups with further failures."""
    quiet: timedelta = timedelta(days=1)
    """After such a time without a failure, a group is new again."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What to tell a receiver."""

    kind: NoticeKind
    groups: tuple[FailureGroup, ...]
    """The largest first, at most :data:`MOST_GROUPS`."""
    left_out: int
    """How many further groups there are."""
    failures: int
    """How many failures all of them have."""


def counted(
    known: Mapping[GroupName, FailureGroup], failures: Iterable[FailedRun], rhythm: Rhythm
) -> dict[GroupName, FailureGroup]:
    """Count failures in their groups. Return the groups that this changes.

    :param known: the groups so far; at least those of the failures' names.
    """
    changed: dict[GroupName, FailureGroup] = {}
    for each in sorted(failures, key=lambda failure: (failure.finished_at, failure.job_id)):
        group = changed.get(each.name) or known.get(each.name)
        if group is None or (not group.unreported and each.finished_at - group.newest_at > rhythm.quiet):
            group = FailureGroup(each.name, each.finished_at, each.finished_at, each.job_id)
        late = each.finished_at < group.newest_at  # it was committed after a later one had been counted
        changed[each.name] = replace(
            group,
            known_since=min(group.known_since, each.finished_at),
            newest_at=max(group.newest_at, each.finished_at),
            job_id=group.job_id if late else each.job_id,
            unreported=group.unreported + 1,
            oldest_at=min(group.oldest_at or each.finished_at, each.finished_at),
        )
    return changed


def muted(names: Mapping[str, GroupName], mutes: Collection[Mute], now: datetime) -> list[str]:
    """Return the keys of the groups that somebody has muted. Their failures so far are forgotten."""
    return [key for key, name in names.items() if any(mute.covers(name, now) for mute in mutes)]


def decide(
    new: UnreportedGroups,
    known: UnreportedGroups,
    now: datetime,
    digest_at: datetime | None,
    rhythm: Rhythm,
    unconfirmed: int = 0,
) -> tuple[Notice, ...]:
    """Decide what to report now. A notice is about all groups of its kind, also those that it only counts.

    A new group is reported at once. Known groups are reported together, once the last digest is a period ago, and so is
    the last notice about one of them. What is muted is forgotten before.

    :param new: the unreported groups about which no notice was made.
    :param known: the other unreported ones.
    :param digest_at: when the last digest was made.
    :param unconfirmed: how many notices the receiver has not confirmed.
    """
    if unconfirmed >= MOST_UNCONFIRMED:
        return ()
    reports = {NoticeKind.NEW: new}
    if _is_time_for_digest(known, now, digest_at, rhythm):
        reports[NoticeKind.DIGEST] = known
    return tuple(_notice(kind, groups) for kind, groups in reports.items() if groups.number)


def _is_time_for_digest(known: UnreportedGroups, now: datetime, digest_at: datetime | None, rhythm: Rhythm) -> bool:
    if digest_at is not None and now - digest_at < rhythm.period:
        return False
    return known.reported_at is not None and now - known.reported_at >= rhythm.period


def _notice(kind: NoticeKind, groups: UnreportedGroups) -> Notice:
    largest = sorted(groups.largest, key=lambda group: (-group.unreported, group.name))[:MOST_GROUPS]
    return Notice(kind, tuple(largest), groups.number - len(largest), groups.failures)
