"""The JSON of `mutes`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Self

from spoke_jobs.explain.shape import Shape
from spoke_jobs.ledger.notices.notice_values import Mute


class MuteState(Shape):
    """Failures about which no notices are sent. A field that is null stands for any value."""

    id: int
    job_type: str | None
    """A name or a pattern."""
    cause: str | None
    fingerprint: str | None
    until: datetime
    reason: str
    muted_by: str
    """Who did it; empty if unknown."""
    muted_at: datetime


class Mutes(Shape):
    """The output of `mutes ls`."""

    mutes: tuple[MuteState, ...]
    """Those that have not ended, by id."""

    @classmethod
    def of(cls, mutes: Iterable[Mute]) -> Self:
        """Convert mutes of the ledger."""
        return cls(mutes=tuple(MuteState.model_validate(mute) for mute in mutes))
