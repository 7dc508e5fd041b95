"""The limits that workers, the operator and `why` share: which ones apply to a job, and what a job waits for. Pure.

Workers keep limits in the ledger. The operator reads them from SpokeLimits and from its settings. Both look up those of
a job with :func:`applying`, the narrowest first. They say with :func:`limit_wait`, :func:`rate_wait` and
:meth:`Pause.wait` why it does not start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from spoke_jobs.contract.limit_scopes import ALL_KINDS, Place, ScopeKind, Subject
from spoke_jobs.contract.start_rate import StartRate
from spoke_jobs.contract.wait_reasons import Wait, WaitReason

V = TypeVar("V")


def applying(
    limits: Mapping[str, V], subject: Subject, kinds: Collection[ScopeKind] = ALL_KINDS
) -> Iterator[tuple[Place, V]]:
    """Yield what is set for a job, the narrowest scope first. The time does not depend on how many limits there are.

    :param limits: by scope, as text.
    :param kinds: the forms of these scopes, if they are known. It then takes less time.
    """
    if limits:
        for place in subject.scopes(kinds):
            if (found := limits.get(place[1])) is not None:
                yield place, found


@dataclass(frozen=True, slots=True)
class Pause:
    """Why no attempt starts."""

    source: str
    """The object, the setting or the command that pauses."""
    note: str = ""
    """The reason that was given."""
    by: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """Whether the pause has ended by itself."""
        return self.until is not None and self.until <= now

    def wait(self, scope: str = "") -> Wait:
        """Return what a job waits for."""
        return Wait(
            WaitReason.PAUSED,
            object=scope,
            source=self.source,
            by=self.by,
            note=self.note,
            paused_since=self.since,
            retry_at=self.until,
        )


def limit_wait(code: WaitReason, name: str, running: int, most: int | None, source: str) -> Wait | None:
    """Return what a job waits for if so many run already; None if there is room.

    :param name: the queue, for example, whose jobs are counted.
    :param most: None for no limit.
    """
    if most is None or running < most:
        return None
    return Wait(code, object=name, running=running, limit=most, source=source)


def rate_wait(rate: StartRate, source: str, retry_at: datetime) -> Wait:
    """Return what a job waits for if a rate has no token before that time."""
    return Wait(WaitReason.RATE_LIMIT_REACHED, object=str(rate), source=source, retry_at=retry_at)
