"""The values of failed jobs, of their groups and of mutes, for notices. Nothing here uses a database."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from spoke_jobs.type_names import matches


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
        given = (("type", self.job_type), ("cause", self.cause), ("fingerprint", self.fingerprint))
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
