"""Creating SpokeJobs beside the dispatching threads, which wait for nothing. What is left undone, sync does.

A job is durable once it is committed, so the API server's answer is nobody's to wait for: one that is slow, or away,
costs no caller anything.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from weakref import WeakSet

from spoke_jobs.model import JobRequest

logger = logging.getLogger(__name__)

REST_SECONDS = 30.0
CLOSING_SECONDS = 1.0
_THREADS = 4
"""Tries at once: more would only wait for each other, in the interpreter and in the API server."""
_ROOM = 1000
"""Jobs that wait for their try; sync launches what finds no room."""
_PATIENCE_SECONDS = 5.0
"""For a try; what has waited for longer, sync has launched."""
_RECORD_SECONDS = 0.1
"""From a try to its record: so long others are gathered, and the caller has the interpreter first."""
_RECORDED_AT_ONCE = 100
_IDLE_SECONDS = 10.0


class Breaker:
    """After a failure nothing is tried for a while; then one try at a time, until one succeeds."""

    def __init__(self, rest_seconds: float, clock: Callable[[], float]) -> None:
        self._rest = rest_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._next_try: float | None = None
        """None while all is well."""

    def ask(self) -> bool:
        """Whether to try now. The one try after a rest counts as failed until it is said to have succeeded."""
        with self._lock:
            if self._next_try is None:
                return True
            if self._clock() < self._next_try:
                return False
            self._next_try = self._clock() + self._rest
            return True

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


class Submitter:
    """Tries once to create each SpokeJob, by a few threads of its own. Safe to call from any thread, not across a fork.

    :param create: makes one try; whether the SpokeJob was created. Raises if the API server can't be had.
    :param record: says in the ledger that they were.
    """

    def __init__(
        self,
        create: Callable[[JobRequest], bool],
        record: Callable[[Sequence[JobRequest]], None],
        *,
        room: int = _ROOM,
        patience_seconds: float = _PATIENCE_SECONDS,
        rest_seconds: float = REST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._create = create
        self._record = record
        self._room = room
        self._patience = patience_seconds
        self._clock = clock
        self._breaker = Breaker(rest_seconds, clock)
        self._pid = os.getpid()
        self._news = threading.Condition()
        """Held for all that follows."""
        self._waiting: deque[tuple[JobRequest, float]] = deque()
        """Each with the time after which it is not tried any more."""
        self._threads = 0
        self._idle = 0
        self._closing = False
        _all.add(self)

    def submit(self, jobs: Sequence[JobRequest]) -> bool:
        """Have them tried, in that order; returns at once. False if any is left to sync."""
        with self._news:
            for job in jobs:
                if len(self._waiting) >= self._room or not self._breaker.ask():
                    return False
                self._waiting.append((job, self._clock() + self._patience))
                self._news.notify()
                if len(self._waiting) > self._idle and self._threads < _THREADS:
                    threading.Thread(target=self._work, name="spoke-submit", daemon=True).start()
                    self._threads += 1
            return True

    def rests(self) -> bool:
        """Whether the API server is known to be away, so that all is left to sync for now."""
        return self._breaker.rests()

    def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Let what was submitted be tried and recorded, but wait no longer than that: sync does the rest."""
        if self._pid != os.getpid():  # a forked child has none of the threads
            return
        with self._news:
            self._closing = True
            self._news.notify_all()
            self._news.wait_for(lambda: not self._threads, seconds)
            self._closing = False

    def _work(self) -> None:
        try:
            while (created := self._create_for_a_while()) or not self._ends():
                self._say_created(created)
        except BaseException:  # a thread less, then: another is started for the next job
            self._count_out()
            raise

    def _create_for_a_while(self) -> list[JobRequest]:
        """Try what comes, until nothing comes any more, or what was created is to be recorded."""
        created: list[JobRequest] = []
        wait_until = time.monotonic() + _IDLE_SECONDS
        while len(created) < _RECORDED_AT_ONCE and (job := self._next(wait_until)) is not None:
            if self._try(job):
                wait_until = wait_until if created else time.monotonic() + _RECORD_SECONDS
                created.append(job)
        return created

    def _next(self, wait_until: float) -> JobRequest | None:
        with self._news:
            self._idle += 1
            self._news.wait_for(lambda: self._waiting or self._closing, max(0.0, wait_until - time.monotonic()))
            self._idle -= 1
            while self._waiting:
                job, until = self._waiting.popleft()
                if self._clock() <= until:
                    return job
            return None

    def _try(self, job: JobRequest) -> bool:
        try:
            created = self._create(job)
        except Exception as error:
            with self._news:
                self._waiting.clear()
            if self._breaker.failed():
                logger.warning(
                    "SpokeJobs can't be created from here (%s: %s); sync creates them meanwhile",
                    type(error).__name__,
                    error,
                )
            return False
        self._breaker.succeeded()
        return created

    def _say_created(self, jobs: Sequence[JobRequest]) -> None:
        try:
            if jobs:
                self._record(jobs)
        except Exception as error:  # the API server did its part: no reason to spare it
            which = ", ".join(str(job.id) for job in jobs)
            logger.warning("launched; that it is, sync has to record (%s): job %s", type(error).__name__, which)

    def _ends(self) -> bool:
        with self._news:
            if self._waiting:  # it came just now, and took this thread for one that waits
                return False
            self._count_out()
            return True

    def _count_out(self) -> None:
        with self._news:
            self._threads -= 1
            self._news.notify_all()


_all: WeakSet[Submitter] = WeakSet()


@atexit.register
def _at_exit() -> None:
    for submitter in list(_all):
        submitter.close()
