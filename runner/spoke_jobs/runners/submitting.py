"""One best-effort try to create a SpokeJob in the dispatching process: it costs the caller a second at most, and
nothing while the API server is known to be away. What it leaves undone, sync does.

The caller waits for the API server's answer, not for its record in the ledger, which nobody needs to have at once:
until it is there, sync would only find that the SpokeJob exists.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from weakref import WeakSet

from spoke_jobs.model import JobRequest

logger = logging.getLogger(__name__)

WAIT_SECONDS = 0.9
"""With what else the commit takes, a second in all."""
REST_SECONDS = 30.0
_PAUSE_SECONDS = 0.1
"""Before what was created is recorded, so that a busy process records many at once, and the caller, who has just been
told, has the interpreter first."""
_RECORDED_AT_ONCE = 100


class Permit(Enum):
    """What a circuit breaker says to somebody who wants to try."""

    TRY = "try"
    """Go on, and wait for the answer."""
    PROBE = "probe"
    """See whether it works again, but let nobody wait for it."""
    LEAVE = "leave"
    """Don't."""


class Breaker:
    """After a failure nothing is tried for a while; then one try at a time, until one succeeds.

    One that takes longer than anybody waits is a failure, too: an API server that is slow is none to wait for.
    """

    def __init__(self, rest_seconds: float, clock: Callable[[], float]) -> None:
        self._rest = rest_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._next_try: float | None = None
        """None while all is well."""

    def ask(self) -> Permit:
        """Whether to try now. A probe counts as failed until it is said to have succeeded."""
        with self._lock:
            if self._next_try is None:
                return Permit.TRY
            if self._clock() < self._next_try:
                return Permit.LEAVE
            self._next_try = self._clock() + self._rest
            return Permit.PROBE

    def rests(self) -> bool:
        """Whether nothing is to be tried at this moment."""
        with self._lock:
            return self._next_try is not None and self._clock() < self._next_try

    def failed(self) -> bool:
        """A try failed; True if that is news."""
        with self._lock:
            news = self._next_try is None
            self._next_try = self._clock() + self._rest
            return news

    def succeeded(self) -> None:
        """A try succeeded in time."""
        with self._lock:
            self._next_try = None


class Submission:
    """One try, as its caller sees it."""

    def __init__(self, job: JobRequest, *, read: bool) -> None:
        self.job = job
        self.read = read
        """Whether the caller waits for the record, too."""
        self.answered = threading.Event()
        """The API server has answered, or there will be no answer."""
        self.recorded = threading.Event()
        """What it answered is in the ledger, if it is to be."""


class Submitter:
    """Creates SpokeJobs beside the caller's thread, which waits for a moment. Safe to call from any thread.

    Each try has a thread of its own, because neither a connection nor a name's resolution can be trusted to end in
    time. What was created is recorded a moment later, together and on one connection, however many are dispatched.

    :param create: makes one try; whether the SpokeJob was created. Raises if the API server can't be had.
    :param record: says in the ledger that they were.
    """

    def __init__(
        self,
        create: Callable[[JobRequest], bool],
        record: Callable[[Sequence[JobRequest]], None],
        *,
        wait_seconds: float = WAIT_SECONDS,
        rest_seconds: float = REST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._create = create
        self._record = record
        self._wait = wait_seconds
        self._breaker = Breaker(rest_seconds, clock)
        self._lock = threading.Lock()
        self._to_record: list[Submission] = []
        self._recording = False
        self._wanted = threading.Event()
        """Somebody waits for a record."""
        self._threads: WeakSet[threading.Thread] = WeakSet()

    def submit(self, job: JobRequest, wait_seconds: float | None = None, *, recorded: bool = False) -> None:
        """Try, unless the API server is known to be away; returns within the wait, and raises nothing of the try.

        :param wait_seconds: less than the full wait, for a caller who has waited before.
        :param recorded: wait for the ledger as well, for a caller who reads the row next.
        """
        permit = self._breaker.ask()
        if permit is Permit.LEAVE:
            return
        submission = Submission(job, read=recorded)
        thread = threading.Thread(target=self._try, args=(submission,), name="spoke-submit", daemon=True)
        with self._lock:
            thread.start()
            self._threads.add(thread)
        if permit is Permit.PROBE:
            return
        wait = self._wait if wait_seconds is None else min(wait_seconds, self._wait)
        give_up = time.monotonic() + wait
        if submission.answered.wait(wait):
            if recorded:
                submission.recorded.wait(max(0.0, give_up - time.monotonic()))
        elif wait > self._wait / 2:  # cut shorter, it says nothing
            self._failed("no answer in time")

    def rests(self) -> bool:
        """Whether the API server is known to be away, so that all is left to sync for now."""
        return self._breaker.rests()

    def close(self, seconds: float = WAIT_SECONDS) -> None:
        """Let the tries that are under way end, but wait no longer than that: sync records what they leave."""
        give_up = time.monotonic() + seconds
        with self._lock:
            threads = list(self._threads)
            self._wanted.set()
        for thread in threads:
            thread.join(max(0.0, give_up - time.monotonic()))

    def _try(self, submission: Submission) -> None:
        created, began = False, time.monotonic()
        try:
            created = self._create(submission.job)
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}")
        else:
            if time.monotonic() - began <= self._wait:
                self._breaker.succeeded()
        finally:
            submission.answered.set()
        if created:
            self._record_in_turn(submission)
        else:
            submission.recorded.set()

    def _record_in_turn(self, submission: Submission) -> None:
        """Record it, and what others bring meanwhile; or leave it to the thread that is at it."""
        with self._lock:
            self._to_record.append(submission)
            if submission.read:
                self._wanted.set()
            if self._recording:
                return
            self._recording = True
        self._wanted.wait(_PAUSE_SECONDS)
        while following := self._next_to_record():
            jobs = [one.job for one in following]
            try:
                self._record(jobs)
            except Exception as error:  # the API server did its part: no reason to spare it
                which = ", ".join(str(job.id) for job in jobs)
                logger.warning("launched; that it is, sync has to record (%s): job %s", type(error).__name__, which)
            finally:
                for one in following:
                    one.recorded.set()

    def _next_to_record(self) -> list[Submission]:
        with self._lock:
            following = self._to_record[:_RECORDED_AT_ONCE]
            del self._to_record[:_RECORDED_AT_ONCE]
            if not following:
                self._recording = False
                self._wanted.clear()
            return following

    def _failed(self, why: str) -> None:
        if self._breaker.failed():
            logger.warning("SpokeJobs can't be created from here (%s); sync creates them meanwhile", why)
