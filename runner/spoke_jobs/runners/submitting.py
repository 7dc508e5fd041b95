"""One best-effort try to create a SpokeJob in the dispatching process: it costs the caller a second at most, and
nothing while the API server is known to be away. What it leaves undone, sync does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from enum import Enum

from spoke_jobs.model import JobRequest

logger = logging.getLogger(__name__)

WAIT_SECONDS = 0.9
"""With what else the commit takes, a second in all."""
REST_SECONDS = 30.0


class Permit(Enum):
    """What a circuit breaker says to somebody who wants to try."""

    TRY = "try"
    """Go on, and wait for the answer."""
    PROBE = "probe"
    """See whether it works again, but let nobody wait for it."""
    LEAVE = "leave"
    """Don't."""


class Breaker:
    """After a failure nothing is tried for a while; then one try at a time, until one succeeds."""

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
        """A try succeeded, however late."""
        with self._lock:
            self._next_try = None


class Submitter:
    """Creates SpokeJobs beside the caller's thread, which waits for a moment. Safe to call from any thread.

    ``create`` makes one try, and raises if the API server can't be had; each try has a thread of its own, because
    neither a connection nor a name's resolution can be trusted to end in time.
    """

    def __init__(
        self,
        create: Callable[[JobRequest], None],
        *,
        wait_seconds: float = WAIT_SECONDS,
        rest_seconds: float = REST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._create = create
        self._wait = wait_seconds
        self._breaker = Breaker(rest_seconds, clock)

    def submit(self, job: JobRequest, wait_seconds: float | None = None) -> None:
        """Try, unless the API server is known to be away; returns within the wait, and raises nothing of the try.

        :param wait_seconds: less than the full wait, for a caller who has waited before.
        """
        permit = self._breaker.ask()
        if permit is Permit.LEAVE:
            return
        done = threading.Event()
        threading.Thread(target=self._try, args=(job, done), name="spoke-submit", daemon=True).start()
        wait = self._wait if wait_seconds is None else min(wait_seconds, self._wait)
        answered = permit is not Permit.TRY or done.wait(wait)
        if not answered and wait > self._wait / 2:  # cut shorter, it says nothing
            self._failed("no answer in time")

    def rests(self) -> bool:
        """Whether the API server is known to be away, so that all is left to sync for now."""
        return self._breaker.rests()

    def _try(self, job: JobRequest, done: threading.Event) -> None:
        try:
            self._create(job)
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}")
        else:
            self._breaker.succeeded()
        finally:
            done.set()

    def _failed(self, why: str) -> None:
        if self._breaker.failed():
            logger.warning("SpokeJobs can't be created from here (%s); sync creates them meanwhile", why)
