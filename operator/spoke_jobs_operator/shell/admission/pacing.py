"""Keep in memory which SpokeJobs are admitted and which wait.

:mod:`.admit` chooses the next ones. A Lease can't stop a request that is on its way, so the
limits may be exceeded briefly when the leader changes. The limits are not a guarantee that two jobs never run at once.
Mutual exclusion comes from the pods' claims in the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs_operator.core.admission.admit import Candidate, Usage, admit, in_order, is_full, start, why_held
from spoke_jobs_operator.core.admission.turns import Turns
from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.limits.start_rates import StartRates
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.objects.limit_objects import SpokeLimitView
from spoke_jobs_operator.core.obstacles.holds import REFUSALS, Holds
from spoke_jobs_operator.core.obstacles.room import NOT_YET, Group, Room, Sighting
from spoke_jobs_operator.core.reconciling.actions import Standing

UNDECIDED = NOT_YET
"""The result for a SpokeJob that fits the limits and is not admitted yet. The next admission decides within
milliseconds, so this is not written to the status."""
SHORTEST_TIMER_SECONDS = 0.02
LONGEST_TIMER_SECONDS = 3600.0
SHARE_OF_PASSES = 0.2
"""The most of the time that admissions for new tokens take: an admission is costly when thousands wait."""


def _now() -> datetime:
    return datetime.now(UTC)


class Pacer:
    """The places under the limits.

    Checking all waiting SpokeJobs is costly when thousands wait. If no place was released since the last admission,
    only the new SpokeJob is checked, because none of the others can be admitted now.

    :param wake: called for each admitted SpokeJob.
    :param defer: delays an admission, so that it covers all places that are released at about the same time. It is
        given the least seconds: as long as the last one took, so that admissions take half of the time at most.
    :param holds: returns the empty state of the holds; None for no holds.
    :param clock: returns the current time.
    :param later: calls a function after the given number of seconds; None to wait for the next :meth:`tick`.
    """

    def __init__(
        self,
        limits: Limits,
        wake: Callable[[Key], None],
        defer: Callable[[float, Callable[[], None]], object] | None = None,
        holds: Callable[[], Holds] | None = None,
        clock: Callable[[], datetime] = _now,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self.limits = limits
        self._make_holds: Callable[[], Holds | None] = holds or (lambda: None)
        self._clock = clock
        self._later = later
        self._token_at: datetime | None = None  # when the timer for the next token fires; None if there is no timer
        self._timers = 0
        self._pass_seconds = 0.0  # the processor time of the last admission
        self.usage = self._empty()
        self._wake = wake
        self._defer = defer
        self._waiting: dict[Key, Candidate] = {}
        self._taken: dict[Key, Candidate] = {}  # has an attempt, or is admitted and will get one
        self._aside: set[Key] = set()  # admission raised an error about them
        self.on_error: Callable[[Exception], None] = lambda _error: None
        """Called when an admission or the count of places raised an error."""
        self._turns = Turns()
        self._admission_is_due = False

    def held(self, candidate: Candidate) -> Wait | None:
        """Return why a SpokeJob gets no Job now; None if it has a place."""
        if candidate.key in self._aside:
            _try_alone(candidate)
            self._aside.discard(candidate.key)
        if candidate.key in self._taken:
            return None
        return self._why_held(candidate) or UNDECIDED

    def begin_rates(self, items: Iterable[SpokeLimitView]) -> None:
        """Begin the buckets of new SpokeLimits, before their limits are set."""
        self.usage.rates.begin(items)

    def set_limits(self, limits: Limits) -> None:
        """Replace the limits, and admit the SpokeJobs that now fit. Running attempts continue."""
        self.limits = limits
        self._admit_soon()

    def set_free_standby(self, namespace: str, counts: Mapping[str, int]) -> None:
        """Record how many standby pods of a namespace are free, and admit the SpokeJobs for which there is one now.

        :param counts: how many are free, by PodTemplate.
        """
        holds = self.usage.holds
        if holds is None or not holds.standby.set_free(namespace, counts):
            return
        if any(item.standby and item.key.namespace == namespace for item in self._waiting.values()):
            self._admit_soon()

    def reset(self) -> None:
        """Forget all places and waiting SpokeJobs: another leader may have changed them."""
        self._waiting.clear()
        self._taken.clear()
        self._aside.clear()
        self._token_at = None
        self._timers += 1
        self.usage = self._empty()

    def _empty(self) -> Usage:
        return Usage(holds=self._make_holds(), rates=StartRates(self._clock()))

    def prime(
        self, running: Iterable[Candidate], waiting: Iterable[Candidate], held: Iterable[tuple[Group, Wait]] = ()
    ) -> None:
        """Add all SpokeJobs at once, so that the order of turns does not depend on the order of calls.

        :param held: what an earlier leader held, and why; of several waits of a group, the first counts.
        """
        running, waiting = tuple(running), tuple(waiting)
        if self.usage.holds is not None:
            for group, wait in held:
                self._try(partial(self.usage.holds.resume, group, wait))
        for candidate in (*running, *waiting):
            self._try(partial(self.usage.unfinished.add, candidate.key, candidate.age))
        for candidate in running:
            self._try(partial(self._take, candidate, adopted=True))
        for candidate in waiting:
            if candidate.key not in self._taken:
                self._waiting[candidate.key] = candidate
        self._admit_waiting()

    def settle(
        self, candidate: Candidate, standing: Standing, seen: Sighting | None = None, rejected: Wait | None = None
    ) -> None:
        """Record a SpokeJob's standing, and how far its attempt has come. Admit SpokeJobs if this releases a place.

        :param rejected: what it waits for, if the API server rejects its next attempt's Job.
        """
        key, holds = candidate.key, self.usage.holds
        if rejected is not None and holds is not None:
            holds.rejected(key, candidate.group, candidate.subject.job_type, rejected)
        elif standing is Standing.IDLE or (standing is Standing.WAITS and self._is_held_otherwise(candidate)):
            self._forget_rejection(key)
        if standing is Standing.FINISHED:
            self._finished(key)
        else:
            self.usage.unfinished.add(key, candidate.age)
        if standing is Standing.HOLDS:
            self._take(candidate, adopted=True)
            if seen is not None and holds is not None and holds.observe(key, seen):
                self._admit_soon()
        elif standing is not Standing.WAITS:
            self._leave(key)
        elif key not in self._taken and key not in self._waiting:
            self._waiting[key] = candidate
            if not self._admission_is_due and self._why_held(candidate) is None:
                self._admit_or_wait(candidate)
        elif key not in self._taken and candidate != self._waiting[key]:
            self._waiting[key] = candidate
            self._admit_soon()  # another one may now come first, or take the place that was kept for this one

    def tick(self, now: datetime) -> None:
        """Apply the time to the holds, and admit SpokeJobs if a hold has ended. To be called every second."""
        self.usage.rates.tick(now)
        if self._later is None and self.usage.rates.awaited is not None and self.usage.rates.awaited <= now:
            self._admit_soon()
        if self.usage.holds is not None and self.usage.holds.tick(now):
            self._admit_soon()

    def ended(self, key: Key, cause: str, *, recorded: bool = False) -> None:
        """Record how an attempt ended, before its SpokeJob's standing is recorded.

        :param recorded: whether its process has recorded the end in the ledger.
        """
        if self.usage.holds is not None:
            self.usage.holds.ended(key, cause, recorded=recorded)

    def job_refused(self, candidate: Candidate, wait: Wait) -> bool:
        """Let an admitted SpokeJob wait again if a quota or an absent webhook refuses its Job. Return whether so."""
        holds = self.usage.holds
        if holds is None or wait.code not in REFUSALS:
            return False
        if candidate.key in self._taken:
            self._remove(candidate.key)
        self._waiting[candidate.key] = candidate
        try:
            holds.job_refused(candidate.group, wait)
        finally:
            self._admit_soon()
        return True

    def forget(self, key: Key) -> None:
        """Remove a SpokeJob that is deleted or given up. An error is counted; the place is released in any case."""
        self._finished(key)
        self._leave(key)

    def _is_held_otherwise(self, candidate: Candidate) -> bool:
        """Whether a SpokeJob whose Job was rejected now waits for something else than its turn."""
        holds = self.usage.holds
        if holds is None or not holds.rejections.waits(candidate.key):
            return False
        wait = self._why_held(candidate)
        return wait is not None and wait.code not in (NOT_YET.code, WaitReason.START_LIMIT_REACHED)

    def _forget_rejection(self, key: Key) -> None:
        if self.usage.holds is not None and self.usage.holds.rejections.forget(key):
            self._admit_soon()

    def _finished(self, key: Key) -> None:
        limited = self.limits.of(key.namespace).unfinished is not None
        try:
            self._forget_rejection(key)
            counted = self.usage.unfinished.remove(key)
        except Exception as error:
            self.on_error(error)
            self._recount(finished=key)
            counted = limited = True
        if counted and limited:  # another one is now among the oldest
            self._admit_soon()

    def _leave(self, key: Key) -> None:
        """Remove a SpokeJob that wants no attempt."""
        self._waiting.pop(key, None)
        self._aside.discard(key)
        if key in self._taken:
            self._release(key)

    def order(self, most: int) -> tuple[Candidate, ...]:
        """Return the first ``most`` waiting SpokeJobs, in the order of their turns."""
        return in_order(self._waiting.values(), self.usage, self.limits, self._turns, most)

    def waiting(self) -> Iterable[Candidate]:
        """Return the SpokeJobs that wait for a place."""
        return self._waiting.values()

    def has_place(self, key: Key) -> bool:
        """Whether the SpokeJob has an attempt or is admitted."""
        return key in self._taken

    @property
    def room(self) -> Room | None:
        """The pods that are starting; None without holds."""
        return self.usage.holds.room if self.usage.holds is not None else None

    def __len__(self) -> int:
        """Return how many SpokeJobs wait."""
        return len(self._waiting)

    def _take(self, candidate: Candidate, *, adopted: bool = False) -> None:
        self._waiting.pop(candidate.key, None)
        if candidate.key not in self._taken:
            self._taken[candidate.key] = candidate
            with self._undone_after_error(candidate):
                self.usage.add(candidate, adopted=adopted)

    def _why_held(self, candidate: Candidate) -> Wait | None:
        self.usage.rates.now = self._clock()
        wait = why_held(candidate, self.usage, self.limits)
        self._await_token()
        return wait

    def _admit_or_wait(self, candidate: Candidate) -> None:
        """Admit a SpokeJob that fits, unless another one has waited longer for the token that it would take."""
        rules = self.limits.of(candidate.key.namespace)
        if self._token_at is not None and any(candidate.rates(rules)):
            self._admit_soon()
        else:
            self._admit(candidate)

    def _admit(self, candidate: Candidate) -> None:
        self._waiting.pop(candidate.key, None)
        self._taken[candidate.key] = candidate
        with self._undone_after_error(candidate):
            start(candidate, self.usage, self.limits, self._turns)
        self._wake(candidate.key)

    def _await_token(self) -> None:
        """Admit again when the first token comes that a SpokeJob waits for."""
        due, now = self.usage.rates.awaited, self.usage.rates.now
        if self._later is None or due is None or (self._token_at is not None and self._token_at <= due):
            return
        self._token_at = due
        self._timers += 1
        shortest = max(SHORTEST_TIMER_SECONDS, self._pass_seconds / SHARE_OF_PASSES)
        seconds = min(max((due - now).total_seconds(), shortest), LONGEST_TIMER_SECONDS)
        self._later(seconds, partial(self._token_is_due, self._timers))

    def _token_is_due(self, number: int) -> None:
        if number == self._timers:  # otherwise a later timer has replaced this one
            self._token_at = None
            self.usage.rates.awaited = None
            if self._waiting and not self._admission_is_due:
                self._admit_waiting()

    def _release(self, key: Key) -> None:
        self._remove(key)
        self._admit_soon()

    def _remove(self, key: Key) -> None:
        """Take a SpokeJob's place away. An error must not keep the place from the others."""
        candidate = self._taken.pop(key)
        try:
            self.usage.remove(candidate)
        except Exception as error:
            self.on_error(error)
            self._recount()

    @contextmanager
    def _undone_after_error(self, candidate: Candidate) -> Iterator[None]:
        """Give a SpokeJob no place if its count raises an error. Its reconcile gets the error, or raises it again."""
        try:
            yield
        except Exception:
            del self._taken[candidate.key]
            try:
                if self.usage.total != len(self._taken):
                    self.usage.remove(candidate)
            except Exception as error:
                self.on_error(error)
                self._recount(keeps_holds=True)
            raise

    def _try(self, call: Callable[[], object]) -> None:
        """Do what concerns one SpokeJob of many. If this raises an error, its own reconcile does, too."""
        try:
            call()
        except Exception as error:
            self.on_error(error)

    def _recount(self, *, finished: Key | None = None, keeps_holds: bool = False) -> None:
        """Count all places anew, because an error has left the counts half changed.

        :param finished: a SpokeJob that is no longer unfinished.
        :param keeps_holds: otherwise the holds begin empty, as those of a new leader do. Then each SpokeJob with a
            place is reconciled, which shows how far its attempt has come.
        """
        old = self.usage
        unfinished = old.unfinished.without(finished) if finished else old.unfinished
        failed: set[Key] | None = None
        while failed is None or failed:
            holds, failed = None if keeps_holds else self._make_holds(), set()
            self.usage = Usage(unfinished=unfinished, holds=holds, rates=old.rates)
            for key, candidate in self._taken.items():
                try:
                    self.usage.add(candidate, adopted=True)
                except Exception as error:
                    self.on_error(error)
                    failed.add(key)
            for key in failed:  # its reconcile raises the error again
                del self._taken[key]
                self._wake(key)
        self.usage.holds = old.holds if keeps_holds else self.usage.holds
        for key in [] if keeps_holds else list(self._taken):
            self._wake(key)

    def _admit_soon(self) -> None:
        if not self._waiting or self._admission_is_due:
            return
        if self._defer is None:
            self._admit_waiting()
        else:
            self._admission_is_due = True
            self._defer(self._pass_seconds, self._admit_waiting)

    def _admit_waiting(self) -> None:
        self._admission_is_due = False
        began = time.thread_time()
        self.usage.rates.now = self._clock()
        if self._token_at is None:
            self.usage.rates.awaited = None
        try:
            if is_full(self.usage, self.limits, {key.namespace for key in self._waiting}):
                return
            for candidate in admit(list(self._waiting.values()), self.usage, self.limits, self._turns):
                del self._waiting[candidate.key]
                self._taken[candidate.key] = candidate  # admit has counted it
                self._wake(candidate.key)
        except Exception as error:
            self.on_error(error)
            self._recount(keeps_holds=True)
            self._admit_singly()
        finally:
            self._pass_seconds = time.thread_time() - began
            self._await_token()

    def _admit_singly(self) -> None:
        """Admit without turns, the oldest first, after the order of turns raised an error.

        A SpokeJob about which this raises an error again is set aside: its reconcile raises the error, and counts it.
        """
        for candidate in sorted(self._waiting.values(), key=lambda item: (item.created_at, item.key)):
            try:
                _try_alone(candidate)
                if why_held(candidate, self.usage, self.limits) is None:
                    self._admit(candidate)
            except Exception:
                self._waiting.pop(candidate.key, None)
                self._aside.add(candidate.key)
                self._wake(candidate.key)


def _try_alone(candidate: Candidate) -> None:
    """Admit a SpokeJob as if there were no other, to see whether that raises an error."""
    tuple(admit((candidate,), Usage(), Limits(), Turns()))
