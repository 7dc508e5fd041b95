"""Keep the leases of all attempts on one event loop. One thread renews all leases that are due, in one statement.

A second thread is the watchdog, because the first may hang in a database call. The watchdog asks the event loop to stop
an attempt whose lease is about to lapse. If the attempt does not stop, the watchdog exits the process.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from spoke_jobs.execution.lease import PROGRESS_SECONDS, StopReason, lease_margin, seconds_until_retry
from spoke_jobs.model import Progress, Pulse
from spoke_jobs.shared.outage_log import OutageLog

logger = logging.getLogger(__name__)

Beats = Callable[[Mapping[UUID, Progress | None], float], Mapping[UUID, Pulse]]
"""Renews many leases, and records their progress."""


@dataclass
class _Entry:
    token: UUID
    lease: float
    on_stop: Callable[[StopReason], None]
    deadline: float
    next_beat: float
    ending: bool = False
    progress: Progress | None = None
    unrecorded: Progress | None = None
    """The last report, until it is certainly in the database."""
    wrote_progress: float = 0.0
    notified: set[StopReason] = field(default_factory=set)
    expired: bool = False
    """Whether its owner has been told that the lease is about to lapse."""

    def due(self) -> float:
        if self.progress is None:
            return self.next_beat
        return min(self.next_beat, self.wrote_progress + PROGRESS_SECONDS)


class LeaseGroup:
    """Thread-safe. Calls ``on_stop`` from a background thread, at most once for each reason."""

    def __init__(
        self,
        beats: Beats,
        give_up: Callable[[UUID, StopReason], None],
        note: Callable[[float], None] = lambda _: None,
    ) -> None:
        """
        :param give_up: exits the process, because the given attempt was told to stop for the given reason and did not.
        :param note: called with the time at which the first lease lapses, whenever that changes.
        """
        self._beats = beats
        self._give_up = give_up
        self._note = note
        self._entries: dict[UUID, _Entry] = {}
        self._expired = StopReason.LEASE_EXPIRED
        """Why a lease that lapses now could not be renewed."""
        self._changed = threading.Condition()
        self._outage = OutageLog(
            logger, "the database", began="heartbeats failed", consequence="retrying until the leases lapse"
        )
        for work, name in ((self._keep, "spoke-heartbeats"), (self._watch, "spoke-watchdog")):
            threading.Thread(target=work, name=name, daemon=True).start()

    def add(self, token: UUID, lease: float, asked_at: float | None, on_stop: Callable[[StopReason], None]) -> None:
        """Start to keep a claim's lease. Renew a claim of unknown age at once."""
        if asked_at is None:
            now = time.monotonic()
            entry = _Entry(token, lease, on_stop, now + lease - lease_margin(lease), now)
        else:
            entry = _Entry(token, lease, on_stop, asked_at + lease - lease_margin(lease), asked_at + lease / 3)
        with self._changed:
            self._entries[token] = entry
            self._note_first_end()
            self._changed.notify_all()

    def report(self, token: UUID, progress: Progress) -> None:
        """Write this progress soon; a later call replaces it."""
        with self._changed:
            if (entry := self._entries.get(token)) is not None:
                entry.progress = entry.unrecorded = progress
                self._changed.notify_all()

    def ending(self, token: UUID) -> Progress | None:
        """Mark that the attempt's end is being recorded: a heartbeat that finds no claim is expected now.

        Return the last progress unless it is already recorded, so that it is recorded with the end.
        """
        with self._changed:
            if (entry := self._entries.get(token)) is None:
                return None
            entry.ending = True
            self._note_first_end()
            return entry.unrecorded

    def going_on(self, token: UUID) -> None:
        """Mark that recording the end failed, so that the attempt continues. Check its claim at once."""
        with self._changed:
            if (entry := self._entries.get(token)) is not None:
                entry.ending = False
                entry.next_beat = 0.0
                self._note_first_end()
                self._changed.notify_all()

    def remove(self, token: UUID) -> None:
        """Stop keeping the lease: the end is recorded, or the claim is lost."""
        with self._changed:
            self._entries.pop(token, None)
            self._note_first_end()

    def _note_first_end(self) -> None:
        ends = (entry.deadline + lease_margin(entry.lease) for entry in self._entries.values() if not entry.ending)
        self._note(min(ends, default=math.inf))

    def _keep(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                first = min((entry.due() for entry in self._entries.values()), default=None)
                if first is None or first > now:
                    self._changed.wait(None if first is None else first - now)
                    continue
                # Include leases that are due soon: one statement renews them all.
                beating = [entry for entry in self._entries.values() if entry.due() <= now + entry.lease / 12]
                progress = {entry.token: entry.progress for entry in beating}
                for entry in beating:
                    if entry.progress is not None:
                        entry.progress, entry.wrote_progress = None, now
            self._beat(beating, progress)

    def _beat(self, entries: list[_Entry], progress: Mapping[UUID, Progress | None]) -> None:
        before = time.monotonic()
        pulses: Mapping[UUID, Pulse] = {}
        self._expired = StopReason.DATABASE_AWAY
        try:
            pulses = self._beats(progress, entries[0].lease)
        except Exception as error:  # the database may be back before the leases lapse
            self._outage.failed(type(error).__name__)
        else:
            self._outage.recovered()
        with self._changed:
            if pulses:  # with the deadlines: on a busy machine this thread may not go on before the watchdog does
                self._expired = StopReason.LEASE_EXPIRED
            for entry in entries:
                pulse = pulses.get(entry.token)
                if pulse is None:
                    entry.next_beat = time.monotonic() + seconds_until_retry(entry.lease)
                    continue
                entry.next_beat = before + entry.lease / 3
                if entry.unrecorded is progress[entry.token]:
                    entry.unrecorded = None
                if pulse is not Pulse.GONE:
                    entry.deadline = before + entry.lease - lease_margin(entry.lease)
                if pulse is not Pulse.HELD and not entry.ending:
                    self._notify(entry, StopReason.CLAIM_LOST if pulse is Pulse.GONE else StopReason.CANCELLED)
            self._note_first_end()
            self._changed.notify_all()

    def _notify(self, entry: _Entry, reason: StopReason) -> None:
        if entry.token in self._entries and reason not in entry.notified:
            entry.notified.add(reason)
            entry.on_stop(reason)

    def _watch(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                lapsed = [entry for entry in self._entries.values() if entry.deadline <= now and not entry.ending]
                for entry in lapsed:
                    if not entry.expired:
                        entry.expired = True
                        self._notify(entry, self._expired)
                # The attempt has half of the margin to stop; then the process exits.
                ends = {
                    entry.token: entry.deadline + (lease_margin(entry.lease) / 2 if entry.expired else 0)
                    for entry in self._entries.values()
                    if not entry.ending
                }
                unstopped = [token for token, end in ends.items() if end <= now and self._entries[token].expired]
                if unstopped:
                    break
                first = min(ends.values(), default=None)
                self._changed.wait(None if first is None else max(0.01, first - now))
        self._give_up(unstopped[0], self._expired)
