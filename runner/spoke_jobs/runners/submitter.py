"""Create SpokeJobs on background threads, so that dispatch never blocks. Sync creates the rest.

A job is durable once it is committed, so no caller waits for the API server, however slow it is.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from spoke_jobs.ledger.after_commit import run_safely
from spoke_jobs.model import JobRequest

logger = logging.getLogger(__name__)

REST_SECONDS = 30.0
CLOSING_SECONDS = 1.0
_THREADS = 4
"""Concurrent tries. More would only wait for each other, in the interpreter and in the API server."""
_ROOM = 1000
"""The most jobs that wait for their try."""
_IDLE_SECONDS = 10.0


class Breaker:
    """A circuit breaker: after a failure nothing is tried for a while, then one try at a time until one succeeds."""

    def __init__(self, rest_seconds: float, clock: Callable[[], float]) -> None:
        self._rest = rest_seconds
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
            self._next_try = self._clock() + self._rest
            return True

    def rests(self) -> bool:
        """Return whether the circuit is open: nothing is to be tried now."""
        with self._lock:
            return self._next_try is not None and self._clock() < self._next_try

    @property
    def failures(self) -> int:
        """The number of failures so far; a try passes the number at its start to :meth:`succeeded`."""
        return self._failures

    def failed(self) -> bool:
        """Record a failed try; return True if the circuit was closed."""
        with self._lock:
            news = self._next_try is None
            self._next_try = self._clock() + self._rest
            self._failures += 1
            return news

    def succeeded(self, failures: int) -> None:
        """Record a successful try that started after ``failures`` failures; later ones still count."""
        with self._lock:
            if failures == self._failures:
                self._next_try = None


class Submitter:
    """Try once to launch each job, on a few threads of its own. Call it from any thread, but not across a fork.

    :param launch: tries once, and returns whether the API server was asked. Whatever it leaves, sync continues. It
        raises if the API server can't be reached.
    :param left: called from any thread when jobs are left that sync is to launch at once.
    :param patience_seconds: after this time sync launches a job anyway, so it is not tried here any longer.
    """

    def __init__(
        self,
        launch: Callable[[JobRequest], bool],
        left: Callable[[], object],
        *,
        patience_seconds: float,
        room: int = _ROOM,
        rest_seconds: float = REST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._launch = launch
        self._left = left
        self._patience = patience_seconds
        self._room = room
        self._clock = clock
        self._breaker = Breaker(rest_seconds, clock)
        self._pid = os.getpid()
        self._news = threading.Condition()
        """Guards the attributes below."""
        self._waiting: deque[tuple[JobRequest, float]] = deque()
        """Each with the time until which it is tried. Without payloads, which no SpokeJob has."""
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._closing = 0
        self._closed = False
        _all.add(self)

    def submit(self, jobs: Iterable[JobRequest]) -> None:
        """Queue the jobs to be tried in that order, and return at once."""
        with self._news:
            self._closed = False
            accepted = all(self._accept(job) for job in jobs)
        if not accepted:
            self._tell_sync()

    def rests(self) -> bool:
        """Return whether the API server is known to be unreachable, so that everything is left to sync for now."""
        return self._breaker.rests()

    def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Wait up to ``seconds`` for the queued jobs to be tried. Sync launches the rest."""
        if self._pid != os.getpid():  # a forked child has none of these threads
            return
        with self._news:
            self._closing += 1
            try:
                self._news.notify_all()
                self._news.wait_for(lambda: not self._threads, seconds)
            finally:
                self._waiting.clear()
                self._closing -= 1
                self._closed = True

    def _accept(self, job: JobRequest) -> bool:
        """Queue a job, with the lock held. Return False if sync is to launch it, and all that follow, at once."""
        now = self._clock()
        if not self._threads:
            self._waiting.clear()  # the threads that were to try them have died
        if self._waiting and self._waiting[0][1] < now:
            return False  # the first has waited too long, so this one would, too
        if len(self._waiting) >= self._room:
            return True  # not tried; sync is not woken, since it would start with the jobs that are tried here
        if not self._breaker.ask():
            return False
        self._waiting.append((replace(job, payload=""), now + self._patience))
        self._news.notify()
        if len(self._waiting) > self._idle and len(self._threads) < _THREADS:
            self._start_thread()
        return bool(self._threads)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="spoke-submit", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except BaseException as error:
            self._threads.discard(thread)
            if not isinstance(error, RuntimeError):  # no thread can be started, as at the interpreter's exit
                raise

    def _tell_sync(self) -> None:
        if not self._closed:  # else it would reopen what the caller has closed
            run_safely(self._left)

    def _work(self) -> None:
        try:
            while (following := self._next()) is not None:
                job, until = following
                if self._clock() > until:
                    self._tell_sync()
                else:
                    self._try(job)
        finally:
            with self._news:
                self._threads.discard(threading.current_thread())
                self._news.notify_all()

    def _next(self) -> tuple[JobRequest, float] | None:
        with self._news:
            self._idle += 1
            self._news.wait_for(lambda: self._waiting or self._closing, _IDLE_SECONDS)
            self._idle -= 1
            if self._waiting:
                return self._waiting.popleft()
            self._threads.discard(threading.current_thread())  # now, or the next job would count on this thread
            return None

    def _try(self, job: JobRequest) -> None:
        failures = self._breaker.failures
        try:
            asked = self._launch(job)
        except Exception as error:
            with self._news:
                news = self._breaker.failed()
                self._waiting.clear()
            if news:
                why = f"{type(error).__name__}: {error}"
                logger.warning("can't create SpokeJobs (%s); left to sync", why)
            self._tell_sync()
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


# Twice: before other exit handlers, one of which removes the Kubernetes client's certificates; and for what was
# dispatched after that, by an exit handler or by a thread that outlived the main thread.
_register: Callable[[Callable[[], None]], Any] = getattr(threading, "_register_atexit", atexit.register)
_register(_before_exit)
atexit.register(_before_exit)
