"""The values of failed jobs, of their groups and of mutes, for notices. Nothing here uses a database."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from spoke_jobs.errors import InvalidMute
from spoke_jobs.type_names import matches

REASON_LIMIT = 200
"""The most characters of a mute's reason."""
_DOUBLE_CLICK = timedelta(minutes=1)


class GroupName(NamedTuple):
    """What the failed jobs of a group have in common."""

    job_type: str
    cause: str
    fingerprint: str
    """Empty if the failure has none."""

    @property
    def key(self) -> str:
        """A hash, because other code may have written names that are too long for an index."""
        parts = (part.encode("utf-8", "replace") for part in self)
        return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run of a job that has failed for good."""

    job_id: int
    run: int
    name: GroupName
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failed jobs of one name, as a channel knows them."""

    name: GroupName
    known_since: datetime
    """When the first of them failed."""
    newest_at: datetime
    """When the last of them failed."""
    job_id: int
    """The job that failed last."""
    unreported: int = 0
    """How many of them no notice has reported."""
    oldest_at: datetime | None = None
    """When the first of these failed; None if there are none."""
    reported_at: datetime | None = None
    """When the last notice about the group was made; None before the first."""


@dataclass(frozen=True, slots=True)
class UnreportedGroups:
    """The groups with failures that no notice has reported: the largest of them, and what all of them have together."""

    largest: tuple[FailureGroup, ...] = ()
    number: int = 0
    """How many groups there are."""
    failures: int = 0
    """How many unreported failures they have."""
    reported_at: datetime | None = None
    """When the oldest of the last notices about each was made; None if none was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMute:
    """A mute that somebody asks for. None: any.

    :raises InvalidMute: if it would be about all failures, is about those with an empty name, or has no proper reason.
    """

    job_type: str | None = None
    """A name, or a pattern in which ``*`` stands for any characters."""
    cause: str | None = None
    fingerprint: str | None = None
    until: datetime
    reason: str

    def __post_init__(self) -> None:
        """Check what was given."""
        given = [value for value in (self.job_type, self.cause, self.fingerprint) if value is not None]
        if not given:
            raise InvalidMute("give a type, a cause or a fingerprint")
        if not all(value.strip() for value in given):
            raise InvalidMute("a type, a cause or a fingerprint is empty: that would mute all failures without one")
        if not self.reason.strip():
            raise InvalidMute("the reason is empty: say why")
        if len(self.reason) > REASON_LIMIT:
            raise InvalidMute(f"the reason has {len(self.reason):,} characters: give at most {REASON_LIMIT}")


@dataclass(frozen=True, slots=True)
class Mute:
    """A wish for no notices about some groups. None: any."""

    id: int
    job_type: str | None
    """A name, or a pattern in which ``*`` stands for any characters."""
    cause: str | None
    fingerprint: str | None
    until: datetime
    reason: str
    muted_by: str
    muted_at: datetime

    def repeats(self, new: NewMute, by: str) -> bool:
        """Whether somebody asks for this mute again, as by a double click."""
        asked = (new.job_type, new.cause, new.fingerprint, new.reason, by)
        same = (self.job_type, self.cause, self.fingerprint, self.reason, self.muted_by) == asked
        return same and abs(new.until - self.until) < _DOUBLE_CLICK

    def covers(self, name: GroupName, now: datetime) -> bool:
        """Whether the group is muted now."""
        return (
            now < self.until
            and (self.job_type is None or matches(name.job_type, self.job_type))
            and self.cause in (None, name.cause)
            and self.fingerprint in (None, name.fingerprint)
        )

    def about(self) -> str:
        """Return what is muted: ``type report_*, cause Timeout``."""
        return muted_failures(self.job_type, self.cause, self.fingerprint)


def muted_failures(job_type: str | None, cause: str | None, fingerprint: str | None) -> str:
    """Say which failures a mute is about: ``type report_*, cause Timeout``."""
    given = (("type", job_type), ("cause", cause), ("fingerprint", fingerprint))
    return ", ".join(f"{what} {value}" for what, value in given if value is not None)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a channel has come. The process that reads it holds the channel's lease."""

    now: datetime
    """The database's time."""
    started_at: datetime
    """Failures before then are not reported."""
    looked_at: datetime
    """When the last complete look began."""
    digest_at: datetime | None
    """When the last digest was made."""


@dataclass(frozen=True, slots=True)
class StoredNotice:
    """A notice that its receiver has not confirmed."""

    id: UUID
    document: dict[str, object]
    created_at: datetime
    tries: int
    """How often it was sent without success."""
