"""Decide which groups of failed jobs a notice reports, and when. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from spoke_jobs.ledger.notices.notice_values import FailedRun, FailureGroup, GroupName, Mute

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


@dataclass(frozen=True, slots=True)
class Decision:
    """What to send now, and what becomes of the groups."""

    notices: tuple[Notice, ...] = ()
    changed: tuple[FailureGroup, ...] = ()


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


def decide(
    unreported: Sequence[FailureGroup],
    mutes: Sequence[Mute],
    now: datetime,
    digest_at: datetime | None,
    rhythm: Rhythm,
    unconfirmed: int = 0,
) -> Decision:
    """Decide what to report now.

    A new group is reported at once. Known groups are reported together, once the last digest is a period ago, and so is
    the last notice about one of them. What is muted is forgotten.

    :param unreported: the groups with failures that no notice has reported.
    :param digest_at: when the last digest was made.
    :param unconfirmed: how many notices the receiver has not confirmed.
    """
    forgotten: list[FailureGroup] = []
    new: list[FailureGroup] = []
    known: list[FailureGroup] = []
    for group in unreported:
        if any(mute.covers(group.name, now) for mute in mutes):
            forgotten.append(_with_nothing_to_report(group))
        else:
            (new if group.reported_at is None else known).append(group)
    if unconfirmed >= MOST_UNCONFIRMED:
        return Decision(changed=tuple(forgotten))
    reports = {NoticeKind.NEW: new}
    if _is_time_for_digest(known, now, digest_at, rhythm):
        reports[NoticeKind.DIGEST] = known
    told = [replace(_with_nothing_to_report(group), reported_at=now) for groups in reports.values() for group in groups]
    notices = tuple(_notice(kind, groups) for kind, groups in reports.items() if groups)
    return Decision(notices, (*forgotten, *told))


def _is_time_for_digest(
    known: Sequence[FailureGroup], now: datetime, digest_at: datetime | None, rhythm: Rhythm
) -> bool:
    if digest_at is not None and now - digest_at < rhythm.period:
        return False
    return any(group.reported_at is not None and now - group.reported_at >= rhythm.period for group in known)


def _notice(kind: NoticeKind, groups: Sequence[FailureGroup]) -> Notice:
    largest = sorted(groups, key=lambda group: (-group.unreported, group.name))
    return Notice(
        kind,
        tuple(largest[:MOST_GROUPS]),
        max(len(largest) - MOST_GROUPS, 0),
        sum(group.unreported for group in groups),
    )


def _with_nothing_to_report(group: FailureGroup) -> FailureGroup:
    return replace(group, unreported=0, oldest_at=None)
