"""Keep the leases of the attempts that this process runs, one or many. The decisions: :mod:`.lease`.

One thread renews all leases that are due, in one statement, and writes progress. A second thread is the watchdog,
because the first may hang in a database call. The watchdog tells an owner to stop before its lease lapses.

Most attempts end before either thread has anything to do. In a process that somebody can end from outside, the threads
are therefore started late: see :meth:`LeaseKeeper.start`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from uuid import UUID

from spoke_jobs.errors import Superseded
from spoke_jobs.execution.lease import CANCEL_GRACE_SECONDS, FRESH, Lease, StopReason
from spoke_jobs.model import Claim, Progress, Pulse
from spoke_jobs.shared.outage_log import OutageLog

logger = logging.getLogger(__name__)

Beats = Callable[[Mapping[UUID, Progress | None], float], Mapping[UUID, Pulse]]
"""Renews leases, and records the progress that is given with them."""
GiveUp = Callable[[UUID, StopReason], None]
"""Ends the process, because the owner of that lease was told to stop for that reason and did not."""

_LAST_BEAT_SECONDS = 2.0
"""How long to wait at the end for a heartbeat that is in progress."""
_LATE_SECONDS = 0.1
"""Threads that are started late are started after this time, and before twice as long."""


class LeaseObserver:
    """Who can end this process from outside: the supervisor of a worker."""

    def lease_ends(self, moment: float) -> None:
        """Note when the first lease lapses, on the monotonic clock; infinite if there is none."""

    def heartbeat_unanswered(self, unanswered: bool) -> None:
        """Note whether the database has not answered the last heartbeat, or not yet."""

    def function_begins(self, token: UUID) -> None:
        """Note that the function of this attempt is called: its limits count from now on."""

    def function_ended(self, token: UUID) -> None:
        """Note that the function of this attempt has returned or raised: its limits no longer count."""


UNOBSERVED = LeaseObserver()
"""Nobody can."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom the keeper tells about a lease, from a background thread and at most once for each reason."""

    on_stop: Callable[[StopReason], None]
    on_cancel: Callable[[], None] = lambda: None
    """Called when the job's cancellation was requested."""


class LeaseKeeper:
    """Thread-safe. Its threads run from :meth:`start` to :meth:`close`, with the context of the thread that calls it.

    :param give_up: called half a margin after an owner whose lease could not be renewed was told to stop, if its lease
        was not removed. None: an owner is told to stop once, for whatever reason, and then its lease is not kept.
    """

    def __init__(self, beats: Beats, observer: LeaseObserver = UNOBSERVED, give_up: GiveUp | None = None) -> None:
        self._beats = beats
        self._observer = observer
        self._give_up = give_up
        self._leases: dict[UUID, Lease] = {}
        self._lapses: dict[UUID, float] = {}
        """When each lease lapses: an attempt that begins or ends makes the process look for the first."""
        self._owners: dict[UUID, Owner] = {}
        self._changed = threading.Condition()
        self._keeps_until = self._watches_until = math.inf
        """Until when each thread waits, unless it is notified."""
        self._closed = False
        self._unanswered = False
        """Whether the database has not answered the last heartbeat."""
        self._outage = OutageLog(
            logger, "the database", began="heartbeat failed", consequence="retrying until the lease lapses"
        )
        self._threads: list[threading.Thread] = []
        self._context: Context | None = None
        """That of the thread that has called :meth:`start`, so that lines of the threads name the job as well."""
        self._late = False

    def start(self, *, late: bool = False) -> None:
        """Start the threads.

        :param late: start them after :data:`_LATE_SECONDS`, or before if they have something to do. A keeper that is
            closed until then needs none.
        """
        self._context = copy_context()
        self._late = late and self._first_due() > time.monotonic() + 2 * _LATE_SECONDS
        if self._late:
            _LATE_STARTS.add(self)
        else:
            self.start_threads()

    def start_threads(self) -> None:
        """Start the threads, unless they run or the keeper is closed.

        :raises RuntimeError: if there are too many threads. A later call starts those that are missing.
        """
        works = (("heartbeat", self._keep), ("watchdog", self._watch))
        with self._changed:
            if self._closed or self._context is None:
                return
            for name, work in works[len(self._threads) :]:
                run = self._context.copy().run
                thread = threading.Thread(target=run, args=(work,), name=f"spoke-{name}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def close(self) -> None:
        """End the threads. Wait for a heartbeat in progress, but not for one that hangs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._late:
            _LATE_STARTS.discard(self)
        for thread in self._threads:
            thread.join(_LAST_BEAT_SECONDS)

    def add(self, lease: Lease, owner: Owner, *, renew: bool = False) -> None:
        """Keep a lease from now on.

        :param renew: renew it in this thread before.
        """
        with self._changed:
            self._owners[lease.token] = owner
            self._put(lease)
            if not renew:
                self._observe()
                # Seldom: the threads still wait for what was due of leases that have ended, so that a short attempt
                # wakes neither of them.
                if lease.due_at < self._keeps_until or lease.next_stop()[0] < self._watches_until:
                    self._changed.notify_all()
        if renew:
            self._beat([lease.token])

    def remove(self, token: UUID) -> None:
        """Keep a lease no longer: the attempt has ended, or its claim is lost."""
        with self._changed:
            for kept in (self._leases, self._lapses, self._owners):
                kept.pop(token, None)
            self._observe()

    def is_kept(self, token: UUID) -> bool:
        """Whether the lease is kept: its owner may go on."""
        with self._changed:
            return any(lease.token == token for lease in self._kept())

    def report(self, token: UUID, progress: Progress) -> None:
        """Write this progress soon; a later call replaces it."""
        with self._changed:
            if (lease := self._leases.get(token)) is not None:
                self._leases[token] = lease.reported(progress)
                self._changed.notify_all()
                if self._late:
                    with suppress(RuntimeError):  # there are too many threads; they are started later
                        self.start_threads()

    def unrecorded(self, token: UUID) -> Progress | None:
        """The last progress, until it is certainly recorded."""
        with self._changed:
            return None if (lease := self._leases.get(token)) is None else lease.unrecorded

    def function_ended(self, token: UUID) -> None:
        """Mark that the attempt's function has returned or raised: only its lease limits the recording of its end."""
        with self._changed:
            if (lease := self._leases.get(token)) is not None:
                self._put(lease.after_function())
            if not self._closed:
                self._observer.function_ended(token)

    def end(self, token: UUID) -> Progress | None:
        """Mark that the attempt's end is being recorded, from now on.

        Return the last progress unless it is already recorded, so that it is recorded with the end.
        """
        with self._changed:
            if (lease := self._leases.get(token)) is None:
                return None
            self._put(lease.begins_to_end())
            self._observe()
            return lease.unrecorded

    @contextmanager
    def ending(self, token: UUID) -> Iterator[Progress | None]:
        """Mark that the attempt's end is being recorded. If this raises, the attempt goes on.

        Yield the last progress unless it is already recorded, so that it is recorded with the end.
        """
        progress = self.end(token)
        try:
            yield progress
        except BaseException:
            with self._changed:
                if (lease := self._leases.get(token)) is not None:
                    self._put(lease.goes_on())
                    self._observe()
                    self._changed.notify_all()
            raise

    def _first_due(self) -> float:
        with self._changed:
            times = [min(lease.due_at, lease.next_stop()[0]) for lease in self._kept()]
        return min(times, default=math.inf)

    def _kept(self) -> list[Lease]:
        leases = self._leases.values()
        return list(leases) if self._give_up is not None else [lease for lease in leases if not lease.told]

    def _put(self, lease: Lease) -> None:
        """Keep a lease, or its next state."""
        self._leases[lease.token] = lease
        self._lapses[lease.token] = lease.lapses_at

    def _observe(self) -> None:
        if self._closed:
            return  # the observer may serve the next attempt by now
        # Also the leases of owners that were told to stop: they may hang.
        self._observer.lease_ends(min(self._lapses.values(), default=math.inf))

    def _keep(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now, kept = time.monotonic(), self._kept()
                first = min((lease.due_at for lease in kept), default=math.inf)
                if first > now:
                    self._keeps_until = first
                    self._changed.wait(None if math.isinf(first) else first - now)
                    continue
                # No thread could run until now, and another process may hold the job.
                lapsed = [lease.token for lease in kept if lease.has_lapsed(now)]
                due = [lease.token for lease in kept if lease.joins(now) and not lease.has_lapsed(now)]
            for token in lapsed:
                self._stop(token, StopReason.LEASE_EXPIRED)
            if due:
                self._beat(due)

    def _beat(self, tokens: Sequence[UUID]) -> None:
        sent_at = time.monotonic()
        with self._changed:
            leases = [self._leases[token] for token in tokens if token in self._leases]
            self._leases |= {lease.token: lease.sent(sent_at) for lease in leases}
        if not leases:
            return
        progress = {lease.token: lease.report for lease in leases}
        pulses: Mapping[UUID, Pulse] = {}
        self._unanswered = True
        self._observer.heartbeat_unanswered(True)
        try:
            pulses = self._beats(progress, leases[0].seconds)
        except Exception as error:  # the database may be back before the leases lapse
            self._outage.failed(type(error).__name__)
        else:
            self._observer.heartbeat_unanswered(False)
            self._outage.recovered()
        with self._changed:
            # Together with the times: on a busy machine this thread may not go on before the watchdog does.
            self._unanswered = not pulses
            cancelled = self._note(progress, pulses, sent_at)
            self._observe()
            self._changed.notify_all()
        for owner in cancelled:
            owner.on_cancel()
        for token, pulse in pulses.items():
            if pulse is Pulse.GONE:
                self._stop(token, StopReason.CLAIM_LOST)

    def _note(
        self, progress: Mapping[UUID, Progress | None], pulses: Mapping[UUID, Pulse], sent_at: float
    ) -> list[Owner]:
        """Note the answers to heartbeats. Return the owners of jobs of which somebody has asked the cancellation."""
        now, cancelled = time.monotonic(), []
        for token, written in progress.items():
            if (lease := self._leases.get(token)) is None:
                continue
            if (pulse := pulses.get(token)) is None:
                self._put(lease.unanswered(now))
                continue
            self._put(lease.answered(pulse, sent_at, written, now))
            if pulse is Pulse.CANCELLED and math.isinf(lease.cancelled_at):
                cancelled.append(self._owners[token])
        return cancelled

    def _stop(self, token: UUID, reason: StopReason) -> None:
        with self._changed:
            lease = self._leases.get(token)
            if self._closed or lease is None or not lease.obeys(reason):
                return
            if lease.told and self._give_up is None:
                return
            owner = self._owners[token]
            self._put(lease.stopped(reason))
            self._observe()
            self._changed.notify_all()
        owner.on_stop(self._actual(reason))

    def _actual(self, reason: StopReason) -> StopReason:
        """Return why a lease could not be renewed, if that is the reason."""
        return StopReason.DATABASE_AWAY if reason is StopReason.LEASE_EXPIRED and self._unanswered else reason

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now, stops = time.monotonic(), [(*lease.next_stop(), lease.token) for lease in self._kept()]
                due = [(reason, token) for at, reason, token in stops if at <= now]
                if not due:
                    first = self._watches_until = min((at for at, _, _ in stops), default=math.inf)
                    self._changed.wait(None if math.isinf(first) else first - now)
                    continue
            for reason, token in due:
                if reason is not None:
                    self._stop(token, reason)
                elif self._give_up is not None:
                    self._give_up(token, self._actual(StopReason.LEASE_EXPIRED))
                    return


class _LateStarts:
    """Starts the threads of keepers that are not closed by then, on a background thread of its own.

    Its thread runs already when a job begins. If a job leaves no room for more threads, it tries again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due_at: dict[LeaseKeeper, float] = {}
        self._added = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, keeper: LeaseKeeper) -> None:
        """Start the threads of this keeper later."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # it does not run in a forked process
                self._thread = threading.Thread(target=self._work, name="spoke-late-start", daemon=True)
                self._thread.start()
            self._due_at[keeper] = time.monotonic() + _LATE_SECONDS
        self._added.set()

    def discard(self, keeper: LeaseKeeper) -> None:
        """Do not start them any more."""
        with self._lock:
            self._due_at.pop(keeper, None)

    def _work(self) -> None:
        while True:
            self._added.wait()
            self._added.clear()
            while self._due_at:
                time.sleep(_LATE_SECONDS)
                self._start_due(time.monotonic())

    def _start_due(self, now: float) -> None:
        with self._lock:
            due = [keeper for keeper, at in self._due_at.items() if at <= now]
        for keeper in due:
            with suppress(RuntimeError):  # there are too many threads; the observer can end the process until then
                keeper.start_threads()
                self.discard(keeper)


_LATE_STARTS = _LateStarts()


class KeptLease:
    """The lease of one attempt.

    :param alone: whether its keeper keeps no other.
    """

    def __init__(self, keeper: LeaseKeeper, token: UUID, *, alone: bool = False) -> None:
        self._keeper = keeper
        self._token = token
        self._alone = alone

    def report(self, progress: Progress) -> None:
        """Write this progress soon; a later call replaces it."""
        self._keeper.report(self._token, progress)

    def function_ended(self) -> None:
        """Mark that the job's function has returned or raised; see :meth:`LeaseKeeper.function_ended`."""
        self._keeper.function_ended(self._token)

    def ending(self) -> AbstractContextManager[Progress | None]:
        """Mark that the attempt's end is being recorded; see :meth:`LeaseKeeper.ending`."""
        return self._keeper.ending(self._token)

    def end(self) -> Progress | None:
        """Mark that the attempt has ended. Return the last progress unless it is already recorded."""
        if not self._alone:
            return self._keeper.end(self._token)
        self._keeper.close()
        return self._keeper.unrecorded(self._token)


def keep_one(
    claim: Claim, beats: Beats, owner: Owner, observer: LeaseObserver = UNOBSERVED, run_until: float | None = None
) -> KeptLease:
    """Keep a lease with threads of its own. Renew it at once, unless the claim is fresh.

    :param observer: who can end this process from outside, also if the threads cannot be started. They start late then.
    :param run_until: when the job's timeout expires, on the monotonic clock; None if the job has none.
    :raises Superseded: if another process holds the claim.
    """
    now = time.monotonic()
    fresh = claim.asked_at is not None and now - claim.asked_at < claim.lease_seconds / FRESH
    keeper = LeaseKeeper(beats, observer)
    lease = Lease.of(
        claim.token, claim.lease_seconds, claim.asked_at, now, run_until=run_until, cancel_grace=CANCEL_GRACE_SECONDS
    )
    keeper.add(lease, owner, renew=not fresh)
    if not keeper.is_kept(claim.token):
        raise Superseded("another process holds this attempt's job now, or the job has ended: it is not run here")
    keeper.start(late=observer is not UNOBSERVED)
    return KeptLease(keeper, claim.token, alone=True)
