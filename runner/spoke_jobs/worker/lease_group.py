"""The leases of all that one event loop runs: kept by one thread, with one statement for all that are due.

A second thread watches over the first, which may hang in the database: an attempt whose lease is about to end is
stopped by the loop, and if it (or the loop) doesn't stop, by the process's end.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from spoke_jobs.execution.lease import PROGRESS_SECONDS, StopReason
from spoke_jobs.model import Progress, Pulse

logger = logging.getLogger(__name__)

Beats = Callable[[Mapping[UUID, Progress | None], float], Mapping[UUID, Pulse]]
"""Renew many leases; with them, the progress."""


@dataclass
class _Entry:
    token: UUID
    lease: float
    on_stop: Callable[[StopReason], None]
    deadline: float
    next_beat: float
    ending: bool = False
    progress: Progress | None = None
    wrote_progress: float = 0.0
    told: set[StopReason] = field(default_factory=set)

    def due(self) -> float:
        if self.progress is None:
            return self.next_beat
        return min(self.next_beat, self.wrote_progress + PROGRESS_SECONDS)


class LeaseGroup:
    """Safe to call from any thread. ``on_stop`` is called from ours, at most once for each reason."""

    def __init__(
        self, beats: Beats, give_up: Callable[[UUID], None], note: Callable[[float], None] = lambda _: None
    ) -> None:
        """
        :param give_up: end the process, since this attempt can't be stopped otherwise.
        :param note: told when the first lease ends, whenever that changes.
        """
        self._beats = beats
        self._give_up = give_up
        self._note = note
        self._entries: dict[UUID, _Entry] = {}
        self._changed = threading.Condition()
        for work, name in ((self._keep, "spoke-heartbeats"), (self._watch, "spoke-watchdog")):
            threading.Thread(target=work, name=name, daemon=True).start()

    def add(self, token: UUID, lease: float, asked_at: float | None, on_stop: Callable[[StopReason], None]) -> None:
        """Keep a claim's lease from now on; one whose age isn't known is renewed at once."""
        if asked_at is None:
            now = time.monotonic()
            entry = _Entry(token, lease, on_stop, now + lease - _margin(lease), now)
        else:
            entry = _Entry(token, lease, on_stop, asked_at + lease - _margin(lease), asked_at + lease / 3)
        with self._changed:
            self._entries[token] = entry
            self._note_first()
            self._changed.notify_all()

    def report(self, token: UUID, progress: Progress) -> None:
        """Have this progress written soon; a later one replaces it."""
        with self._changed:
            if (entry := self._entries.get(token)) is not None:
                entry.progress = progress
                self._changed.notify_all()

    def ending(self, token: UUID) -> None:
        """Its end is being recorded: a heartbeat that finds the claim gone means nothing now."""
        with self._changed:
            if (entry := self._entries.get(token)) is not None:
                entry.ending = True
                self._note_first()

    def going_on(self, token: UUID) -> None:
        """Its end could not be recorded, and it runs on: look at once whether its claim still holds."""
        with self._changed:
            if (entry := self._entries.get(token)) is not None:
                entry.ending = False
                entry.next_beat = 0.0
                self._note_first()
                self._changed.notify_all()

    def remove(self, token: UUID) -> None:
        """Its end is recorded, or not ours to record."""
        with self._changed:
            self._entries.pop(token, None)
            self._note_first()

    def _note_first(self) -> None:
        ends = (entry.deadline + _margin(entry.lease) for entry in self._entries.values() if not entry.ending)
        self._note(min(ends, default=math.inf))

    def _keep(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                first = min((entry.due() for entry in self._entries.values()), default=None)
                if first is None or first > now:
                    self._changed.wait(None if first is None else first - now)
                    continue
                # What is soon due goes along: one statement renews them all.
                beating = [entry for entry in self._entries.values() if entry.due() <= now + entry.lease / 12]
                said = {entry.token: entry.progress for entry in beating}
                for entry in beating:
                    if entry.progress is not None:
                        entry.progress, entry.wrote_progress = None, now
            self._beat(beating, said)

    def _beat(self, entries: list[_Entry], said: Mapping[UUID, Progress | None]) -> None:
        before = time.monotonic()
        pulses: Mapping[UUID, Pulse] = {}
        try:
            pulses = self._beats(said, entries[0].lease)
        except Exception as error:  # the database may be back before the leases end
            logger.warning("heartbeats failed (%s); trying again until the leases end", type(error).__name__)
        with self._changed:
            for entry in entries:
                pulse = pulses.get(entry.token)
                if pulse is None:
                    entry.next_beat = time.monotonic() + min(1.0, entry.lease / 10)
                    continue
                entry.next_beat = before + entry.lease / 3
                if pulse is not Pulse.GONE:
                    entry.deadline = before + entry.lease - _margin(entry.lease)
                if pulse is not Pulse.HELD and not entry.ending:
                    self._tell(entry, StopReason.CLAIM_LOST if pulse is Pulse.GONE else StopReason.CANCELLED)
            self._note_first()
            self._changed.notify_all()

    def _tell(self, entry: _Entry, reason: StopReason) -> None:
        if entry.token in self._entries and reason not in entry.told:
            entry.told.add(reason)
            entry.on_stop(reason)

    def _watch(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                lapsed = [entry for entry in self._entries.values() if entry.deadline <= now and not entry.ending]
                for entry in lapsed:
                    self._tell(entry, StopReason.LEASE_EXPIRED)
                # Half of the margin is the attempt's, to stop in order; the other half is ours.
                ends = {
                    entry.token: entry.deadline
                    + (_margin(entry.lease) / 2 if StopReason.LEASE_EXPIRED in entry.told else 0)
                    for entry in self._entries.values()
                    if not entry.ending
                }
                deaf = [
                    token
                    for token, end in ends.items()
                    if end <= now and StopReason.LEASE_EXPIRED in self._entries[token].told
                ]
                if deaf:
                    break
                first = min(ends.values(), default=None)
                self._changed.wait(None if first is None else max(0.01, first - now))
        self._give_up(deaf[0])


def _margin(lease: float) -> float:
    return min(2.0, lease * 0.1)
