"""Keep an attempt's lease: heartbeats, throttled progress, and a watchdog that stops the owner in time.

Heartbeats and watchdog run in background threads. The owner must stop *before* its lease lapses by the database's
clock, since another process may run the job from then on. So for the owner, a lease begins when it sends the renewal,
not when the answer arrives.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from enum import StrEnum
from types import TracebackType
from typing import Self

from spoke_jobs.errors import Superseded
from spoke_jobs.model import Progress, Pulse
from spoke_jobs.shared.outage_log import OutageLog

logger = logging.getLogger(__name__)

Beat = Callable[[Progress | None], Pulse]
"""Renews the lease, and records progress if it is given."""

_LAST_BEAT_SECONDS = 2.0
"""How long to wait at the end for a heartbeat that is in progress."""
_UNTIL_LAPSE = "retrying until the lease lapses"
FRESH = 6
"""A claim that is younger than its lease divided by this number is not renewed at the start."""
CANCEL_GRACE_SECONDS = 10.0
"""How long a cancelled job may take to stop by itself."""


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
    CANCELLED = "it was cancelled, and did not stop by itself"


PROGRESS_SECONDS = 0.25
"""The shortest interval between two writes of progress."""


class LeaseKeeper:
    """A context manager that keeps the lease while a job runs. On entry it renews the lease, unless the claim is fresh.

    :param on_stop: called once, from a background thread, when the attempt has to stop.
    :param asked_at: when the claim was requested, on the monotonic clock; None if unknown.
    :param run_until: when the job's timeout expires, on the monotonic clock; None if the job has none.
    :param on_cancel: called once, when the job's cancellation was requested.
    """

    def __init__(
        self,
        beat: Beat,
        lease_seconds: float,
        on_stop: Callable[[StopReason], None],
        *,
        asked_at: float | None = None,
        run_until: float | None = None,
        on_cancel: Callable[[], None] = lambda: None,
    ) -> None:
        self._beat = beat
        self._lease = lease_seconds
        self._on_stop = on_stop
        self._asked_at = asked_at
        self._run_until = math.inf if run_until is None else run_until
        self._on_cancel = on_cancel
        self._stop_by = math.inf
        self._changed = threading.Condition()
        self._progress: Progress | None = None
        self._unrecorded: Progress | None = None
        """The last report, until it is certainly in the database."""
        self._deadline = 0.0
        self._next_beat = 0.0
        self._ending = 0
        self._over = False
        self._unanswered = False
        """Whether the database has not answered the last heartbeat."""
        self._outage = OutageLog(logger, "the database", began="heartbeat failed", consequence=_UNTIL_LAPSE)
        # With this thread's context, so that lines of these threads name the job as well.
        self._threads = [
            threading.Thread(target=copy_context().run, args=(work,), name=f"spoke-{name}", daemon=True)
            for name, work in (("heartbeat", self._keep), ("watchdog", self._watch))
        ]

    def report(self, progress: Progress) -> None:
        """Write this progress soon; a later call replaces it."""
        with self._changed:
            self._progress = self._unrecorded = progress
            self._changed.notify_all()

    @contextmanager
    def ending(self) -> Iterator[Progress | None]:
        """Mark that the attempt's end is being recorded: a heartbeat that finds no claim is expected now.

        Yield the last progress unless it is already recorded, so that it is recorded with the end.
        """
        with self._changed:
            self._ending += 1
            progress = self._unrecorded
        try:
            yield progress
            self._unrecorded = None
        except BaseException:
            with self._changed:
                self._ending -= 1
                self._next_beat = 0.0  # check at once whether the claim still holds
                self._changed.notify_all()
            raise

    def __enter__(self) -> Self:
        if self._asked_at is not None and time.monotonic() - self._asked_at < self._lease / FRESH:
            self._deadline = self._asked_at + self._lease - lease_margin(self._lease)
            self._next_beat = self._asked_at + self._lease / 3
        else:
            self._renew(None)
        if self._over:
            raise Superseded("another process holds this attempt's job now, or the job has ended: it is not run here")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():  # wait for a heartbeat in progress, but not for one that hangs
                thread.join(_LAST_BEAT_SECONDS)
        if (progress := self._unrecorded) is not None:  # the attempt failed
            try:
                self._beat(progress)
            except Exception as error:
                logger.warning("could not record the last progress (%s)", type(error).__name__)

    def _keep(self) -> None:
        wrote_progress = 0.0
        while True:
            with self._changed:
                now = time.monotonic()
                due = self._next_beat
                if self._progress is not None:
                    due = min(due, wrote_progress + PROGRESS_SECONDS)
                if not self._over and due > now:
                    self._changed.wait(None if math.isinf(due) else due - now)
                    continue
                if self._over:
                    return
                lapsed = now >= self._deadline and not self._ending
                progress, self._progress = self._progress, None
            if lapsed:  # no thread could run until now; another process may hold the job
                self._stop(StopReason.LEASE_EXPIRED)
                return
            if progress is not None:
                wrote_progress = time.monotonic()
            self._renew(progress)

    def _renew(self, progress: Progress | None) -> None:
        before = time.monotonic()
        self._unanswered = True
        try:
            pulse = self._beat(progress)
        except Exception as error:  # the database may be back before the lease lapses
            self._outage.failed(type(error).__name__)
            with self._changed:
                # The progress is written with the end, or the next report replaces it.
                self._next_beat = time.monotonic() + seconds_until_retry(self._lease)
                self._deadline = self._deadline or before + self._lease - lease_margin(self._lease)
            return
        self._outage.recovered()
        with self._changed:
            # Together with the deadline: on a busy machine this thread may not go on before the watchdog does.
            self._unanswered = False
            if self._unrecorded is progress or pulse is Pulse.GONE:
                self._unrecorded = None
            if pulse is not Pulse.GONE:
                self._deadline = before + self._lease - lease_margin(self._lease)
                self._next_beat = before + self._lease / 3
            else:
                self._next_beat = math.inf  # nothing to renew, unless recording the end fails
            self._changed.notify_all()
        if pulse is Pulse.GONE:
            self._stop(StopReason.CLAIM_LOST)
        elif pulse is Pulse.CANCELLED and math.isinf(self._stop_by):
            self._on_cancel()
            with self._changed:
                self._stop_by = time.monotonic() + CANCEL_GRACE_SECONDS
                self._changed.notify_all()

    def _watch(self) -> None:
        while True:
            with self._changed:
                limits = {
                    StopReason.TIMEOUT: self._run_until,
                    StopReason.CANCELLED: self._stop_by,
                    StopReason.LEASE_EXPIRED: self._deadline,
                }
                reason = min(limits, key=lambda limit: limits[limit])
                left = limits[reason] - time.monotonic()
                if self._over:
                    return
                if left > 0 or self._ending:
                    self._changed.wait(left if left > 0 else None)
                    continue
            self._stop(reason)
            return

    def _stop(self, reason: StopReason) -> None:
        with self._changed:
            if self._over or self._ending:
                return
            self._over = True
            self._changed.notify_all()
        away = reason is StopReason.LEASE_EXPIRED and self._unanswered
        self._on_stop(StopReason.DATABASE_AWAY if away else reason)
