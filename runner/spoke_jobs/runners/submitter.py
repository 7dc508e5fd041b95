"""Create SpokeJobs on background threads, so that dispatch never blocks. Sync creates the rest.

A job is durable once it is committed, so no caller waits for the API server, however slow it is.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from spoke_jobs.ledger.after_commit import run_safely
from spoke_jobs.model import JobRequest
from spoke_jobs.runners.waiting_jobs import Waiting, WaitingJobs

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 30.0
CLOSING_SECONDS = 1.0
_THREADS = 4
"""Concurrent tries. More would only wait for each other, in the interpreter and in the API server."""
_ROOM = 1000
"""The most jobs that wait for a try."""
_IDLE_SECONDS = 10.0


class Breaker:
    """A circuit breaker: after a failure nothing is tried for a while, then one try at a time until one succeeds."""

    def __init__(self, pause_seconds: float, clock: Callable[[], float]) -> None:
        self._pause = pause_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._next_try: float | None = None
        """None while the circuit is closed."""
        self._failures = 0

    def ask(self) -> bool:
        """Return whether to try now. The one try after a pause counts as failed until :meth:`succeeded` is called."""
        with self._lock:
            if self._next_try is None:
                return True
            if self._clock() < self._next_try:
                return False
            self._next_try = self._clock() + self._pause
            return True

    def is_paused(self) -> bool:
        """Return whether the circuit is open, so that nothing may be tried now."""
        with self._lock:
            return self._next_try is not None and self._clock() < self._next_try

    @property
    def failures(self) -> int:
        """The number of failures so far; a try passes the number at its start to :meth:`succeeded`."""
        return self._failures

    def failed(self) -> bool:
        """Record a failed try; return True if the circuit was closed."""
        with self._lock:
            was_closed = self._next_try is None
            self._next_try = self._clock() + self._pause
            self._failures += 1
            return was_closed

    def succeeded(self, failures: int) -> None:
        """Record a successful try that started after ``failures`` failures. Ignore it if there were failures since."""
        with self._lock:
            if failures == self._failures:
                self._next_try = None


class Submitter:
    """Tries once to launch each job, on a few threads of its own. Safe from any thread, but not across a fork.

    Jobs that lock the same queue are launched one after another, in the order of their rows.

    :param launch: launches a job. It tries once, and returns whether the API server was called. It raises if the API
        server can't be reached. Sync launches each job that was not launched here.
    :param left: called from any thread if there are jobs that sync must launch at once.
    :param patience_seconds: after this time sync launches a job anyway, so it is no longer tried here.
    """

    def __init__(
        self,
        launch: Callable[[JobRequest], bool],
        left: Callable[[], object],
        *,
        patience_seconds: float,
        room: int = _ROOM,
        pause_seconds: float = PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._launch = launch
        self._left = left
        self._patience = patience_seconds
        self._room = room
        self._clock = clock
        self._breaker = Breaker(pause_seconds, clock)
        self._pid = os.getpid()
        self._changed = threading.Condition()
        """Guards the attributes below."""
        self._waiting = WaitingJobs()
        """Jobs without their payloads."""
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._closing = 0
        self._closed = False
        _all.add(self)

    def submit(self, jobs: Iterable[JobRequest]) -> None:
        """Queue the jobs to be tried, and return at once."""
        with self._changed:
            self._closed = False
            accepted = all(self._accept(job) for job in jobs)
        if not accepted:
            self._notify_sync()

    def is_paused(self) -> bool:
        """Return whether the API server was unreachable a moment ago, so that all jobs are left to sync for now."""
        return self._breaker.is_paused()

    @property
    def closed(self) -> bool:
        """Whether it was closed, and has not been used since."""
        return self._closed

    def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Wait up to ``seconds`` for the queued jobs to be tried. Sync launches the rest."""
        if self._pid != os.getpid():  # a forked child has none of these threads
            return
        with self._changed:
            self._closing += 1
            try:
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._threads, seconds)
            finally:
                self._waiting.clear()
                self._closing -= 1
                self._closed = True

    def _accept(self, job: JobRequest) -> bool:
        """Queue a job; the caller holds the lock. Return False if sync must launch it, and all that follow, at once."""
        now = self._clock()
        if not self._threads:
            self._waiting.clear()  # these were left by threads that have died
        first = self._waiting.first()
        if first is not None and first.until < now:
            return False  # it has waited too long, so this one would, too
        if len(self._waiting) >= self._room:
            return True  # sync launches it in time: if woken now, it would start with the jobs that are tried here
        if not self._breaker.ask():
            return False
        self._waiting.add(replace(job, payload=""), now + self._patience)
        self._changed.notify()
        if self._waiting.free > self._idle and len(self._threads) < _THREADS:
            self._start_thread()
        return bool(self._threads)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="spoke-submit", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except BaseException as error:
            self._threads.discard(thread)
            if not isinstance(error, RuntimeError):  # no thread can be started, for example at the interpreter's exit
                raise

    def _notify_sync(self) -> None:
        if not self._closed:  # else this would reopen connections that the caller has closed
            run_safely(self._left)

    def _work(self) -> None:
        try:
            while (following := self._next()) is not None:
                try:
                    if self._clock() > following.until:
                        self._notify_sync()
                    else:
                        self._try(following.job)
                finally:
                    self._end_launch(following.job)
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())
                self._changed.notify_all()

    def _next(self) -> Waiting | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting.free or self._closing, _IDLE_SECONDS)
            self._idle -= 1
            following = self._waiting.take()
            if following is None:
                self._threads.discard(threading.current_thread())  # now, or the next job would wait for this thread
            return following

    def _end_launch(self, job: JobRequest) -> None:
        if job.locks_queue:
            with self._changed:
                if self._waiting.launched(job):
                    self._changed.notify()

    def _try(self, job: JobRequest) -> None:
        failures = self._breaker.failures
        try:
            asked = self._launch(job)
        except Exception as error:
            with self._changed:
                was_closed = self._breaker.failed()
                self._waiting.clear()
            if was_closed:
                why = f"{type(error).__name__}: {error}"
                logger.warning("could not create SpokeJobs (%s); left to sync", why)
            self._notify_sync()
        else:
            if asked:
                self._breaker.succeeded(failures)


_all: WeakSet[Submitter] = WeakSet()
_exit_seconds = CLOSING_SECONDS


def _before_exit() -> None:
    global _exit_seconds
    for submitter in list(_all):
        began = time.monotonic()
        submitter.close(_exit_seconds)
        _exit_seconds = max(0.0, _exit_seconds - (time.monotonic() - began))


# It runs twice. First before other exit handlers, one of which removes the Kubernetes client's certificates. Then again
# for jobs that an exit handler, or a thread that outlives the main thread, dispatched meanwhile.
_register: Callable[[Callable[[], None]], Any] = getattr(threading, "_register_atexit", atexit.register)
_register(_before_exit)
atexit.register(_before_exit)
