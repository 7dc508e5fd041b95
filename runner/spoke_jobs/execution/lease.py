"""What the owner of a lease does, and when. Pure: the times are given.

The owner must stop *before* its lease lapses by the database's clock, since another process may run the job from then
on. So for the owner, a lease begins when it sends the renewal, not when the answer arrives. All times are those of the
monotonic clock, in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from spoke_jobs.model import Progress, Pulse

FRESH = 6
"""A claim that is younger than its lease divided by this number is not renewed at the start."""
CANCEL_GRACE_SECONDS = 10.0
"""How long a cancelled job may take to stop by itself."""
PROGRESS_SECONDS = 0.25
"""The shortest interval between two writes of progress."""
_SOON = 12
"""A renewal that is due within the lease divided by this number is sent together with one that is due now."""


def lease_margin(lease_seconds: float) -> float:
    """The seconds by which the owner stops before its lease ends."""
    return min(2.0, lease_seconds * 0.1)


def seconds_until_retry(lease_seconds: float) -> float:
    """The seconds after which a renewal that has failed is tried again."""
    return min(1.0, lease_seconds / 10)


def seconds_until_next_record(lease_seconds: float) -> float:
    """The seconds after which an attempt's end that could not be recorded is recorded again."""
    return min(0.5, lease_seconds / 10)


class StopReason(StrEnum):
    """Why an attempt has to stop."""

    CLAIM_LOST = "another process holds the attempt, or the attempt has ended"
    LEASE_EXPIRED = "the lease could not be renewed in time"
    DATABASE_AWAY = "the database did not answer, so the lease could not be renewed in time"
    TIMEOUT = "it has run for longer than its timeout"
    TOO_LONG = "it has run for longer than jobs may in this worker"
    CANCELLED = "it was cancelled, and did not stop by itself"


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease at one moment. Each method that changes it returns the next state."""

    token: UUID
    seconds: float
    stop_at: float
    """When the owner must stop, unless the lease is renewed before."""
    renew_at: float
    run_until: float = math.inf
    """When the job's timeout expires."""
    cancel_grace: float = 0.0
    """How long the job may take to stop by itself, once its cancellation was requested."""
    cancelled_at: float = math.inf
    """When the request to cancel the job became known."""
    function_ended: bool = False
    """Whether the job's function has returned or raised. Then neither its timeout nor a cancellation stops the owner,
    however often the end is recorded in vain."""
    ending: int = 0
    """How many times the attempt's end is being recorded now. The owner is not stopped meanwhile."""
    report: Progress | None = None
    """Progress to write soon."""
    unrecorded: Progress | None = None
    """The last report, until it is certainly in the database."""
    reported_at: float = 0.0
    told: frozenset[StopReason] = frozenset()
    """Why the owner was told to stop."""

    @classmethod
    def of(
        cls,
        token: UUID,
        seconds: float,
        asked_at: float | None,
        now: float,
        *,
        run_until: float | None = None,
        cancel_grace: float = 0.0,
    ) -> Lease:
        """Return the lease of a claim.

        :param asked_at: when the claim was requested. None: unknown, so the claim is renewed at once.
        """
        begins, renew_at = (now, now) if asked_at is None else (asked_at, asked_at + seconds / 3)
        stop_at = begins + seconds - lease_margin(seconds)
        return cls(token, seconds, stop_at, renew_at, math.inf if run_until is None else run_until, cancel_grace)

    @property
    def due_at(self) -> float:
        """When the next heartbeat is due, for a renewal or for progress."""
        return self.renew_at if self.report is None else min(self.renew_at, self.reported_at + PROGRESS_SECONDS)

    def joins(self, now: float) -> bool:
        """Whether its heartbeat is sent now, if one is sent at all: one statement renews many leases."""
        return self.due_at <= now + self.seconds / _SOON

    @property
    def lapses_at(self) -> float:
        """When another process may take over; infinite while the end is being recorded."""
        return math.inf if self.ending else self.stop_at + lease_margin(self.seconds)

    def has_lapsed(self, now: float) -> bool:
        """Whether the owner should have been told by now that its lease could not be renewed, and was not."""
        return self.stop_at <= now and not self.ending and StopReason.LEASE_EXPIRED not in self.told

    def next_stop(self) -> tuple[float, StopReason | None]:
        """When the owner must be told to stop next, and why. None: it was told, and has not stopped in time."""
        if self.ending:
            return math.inf, None
        if StopReason.LEASE_EXPIRED in self.told:  # half of the margin is left for stopping
            return self.stop_at + lease_margin(self.seconds) / 2, None
        at, reason = self.stop_at, StopReason.LEASE_EXPIRED
        if self.function_ended:
            return at, reason
        if (cancelled := self.cancelled_at + self.cancel_grace) <= at and StopReason.CANCELLED not in self.told:
            at, reason = cancelled, StopReason.CANCELLED
        if self.run_until <= at and StopReason.TIMEOUT not in self.told:
            at, reason = self.run_until, StopReason.TIMEOUT
        return at, reason

    def obeys(self, reason: StopReason) -> bool:
        """Whether the owner is still to be told to stop for this reason."""
        over = self.function_ended and reason in (StopReason.TIMEOUT, StopReason.CANCELLED)
        return not self.ending and not over and reason not in self.told

    def reported(self, progress: Progress) -> Lease:
        """The job has reported progress."""
        return replace(self, report=progress, unrecorded=progress)

    def sent(self, now: float) -> Lease:
        """A heartbeat is on its way, with the progress to write."""
        return self if self.report is None else replace(self, report=None, reported_at=now)

    def unanswered(self, now: float) -> Lease:
        """The heartbeat failed. Its progress is written with the end, or the next report replaces it."""
        return replace(self, renew_at=now + seconds_until_retry(self.seconds))

    def answered(self, pulse: Pulse, sent_at: float, progress: Progress | None, now: float) -> Lease:
        """The ledger has answered a heartbeat.

        :param progress: what the heartbeat was to write.
        """
        if pulse is Pulse.GONE:  # there is nothing to renew, unless recording the end fails
            return replace(self, renew_at=math.inf, unrecorded=None)
        return replace(
            self,
            stop_at=sent_at + self.seconds - lease_margin(self.seconds),
            renew_at=sent_at + self.seconds / 3,
            unrecorded=None if pulse is Pulse.HELD and self.unrecorded is progress else self.unrecorded,
            cancelled_at=min(self.cancelled_at, now) if pulse is Pulse.CANCELLED else self.cancelled_at,
        )

    def after_function(self) -> Lease:
        """The job's function has returned or raised."""
        return replace(self, function_ended=True)

    def begins_to_end(self) -> Lease:
        """The attempt's end is being recorded: a heartbeat that finds no claim is expected now."""
        return replace(self, ending=self.ending + 1)

    def goes_on(self) -> Lease:
        """Recording the end has failed, so the attempt continues. Check its claim at once."""
        return replace(self, ending=self.ending - 1, renew_at=0.0)

    def stopped(self, reason: StopReason) -> Lease:
        """The owner was told to stop."""
        return replace(self, told=self.told | {reason})
