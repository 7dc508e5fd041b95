"""Read the cluster for a page, which waits for it only briefly; and whether sync is active."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as TookTooLong
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from sqlalchemy import Engine

from spoke_jobs.cluster.cluster_view import ClusterView, PodTail, SpokeJobWaits
from spoke_jobs.cluster.installed_reads import namespace_in, pulled_in, tail_in, view_of, waits_in
from spoke_jobs.cluster.namespace_view import NamespaceView
from spoke_jobs.contract.executors import Executor, Lane
from spoke_jobs.contract.names import is_object_name, spokejob_name
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.model import JobRequest
from spoke_jobs.shared.api_errors import ApiError
from spoke_jobs.sync.writer import active_sync
from spoke_jobs.web.view_parts import SyncSign

SECONDS = 2.0
"""How long a page waits for the cluster."""
FOLLOW_SECONDS = 0.3
"""How long those who follow an output wait for it. They ask every few seconds, and take what is known then."""
SHARED_SECONDS = 10.0
"""For how long pages share what one read of the whole namespace has found. A live page asks every few seconds."""
GLANCE_SECONDS = 0.1
"""How long a page waits for what it can do without, beyond the time that its other reads take."""
_GLANCED_SECONDS = 30.0
"""For how long such a page shows what the last read has found while the next one is under way."""
SLOW = f"it did not answer within {SECONDS:g} s"
NOT_YET = "it has not answered yet"
TOO_MANY = "too many outputs are followed, and the cluster is slow"
_THREADS = 4
FOLLOWED_SHARED_SECONDS = 2.0
"""For how long those who follow an output share what one read has found."""
_FOLLOWED = 20
"""Of how many SpokeJobs, and of how many pods, it is kept what was read last, for those who follow their output."""
_PULLS = 1_000
"""Of how many pods it is kept when their images were pulled."""
_EVENTS_ARE_SENT = timedelta(seconds=5)
"""After this time, the kubelet has sent the events about a container's start."""
_EVENTS_ARE_KEPT = timedelta(hours=1)
"""How long an API server keeps events, unless it is told otherwise."""

R = TypeVar("R")


class _Shared(Generic[R]):
    """A read whose result pages share for some seconds.

    There is one read at a time, however many pages wait for it.
    """

    def __init__(
        self,
        read: Callable[[], R],
        threads: ThreadPoolExecutor,
        clock: Callable[[], float],
        shared_seconds: float = SHARED_SECONDS,
    ) -> None:
        self._read = read
        self._threads = threads
        self._clock = clock
        self._seconds = shared_seconds
        self._lock = threading.Lock()
        self._reading: Future[R] | None = None
        self._until = 0.0
        self._latest: tuple[R, float] | None = None

    @property
    def is_reading(self) -> bool:
        """Whether a read is under way, or waits for a thread."""
        return self._reading is not None and not self._reading.done()

    def begin(self) -> Future[R]:
        """Return the read that is under way, or whose result is shared, or begin one."""
        with self._lock:
            reading = self._reading
            if reading is None or (reading.done() and self._clock() >= self._until):
                reading = self._reading = self._threads.submit(self._run)
        return reading

    def newest(self, reading: Future[R], within_seconds: float, late: R) -> R:
        """Return what a read finds; if it takes longer, what the one before has found, or else ``late``."""
        return _result(reading, within_seconds, self._latest[0] if self._latest is not None else late)

    def known(self, within_seconds: float) -> R | None:
        """Return what is known by now, and have it read again if it is old; None if nothing is known.

        While a read is under way, what the one before it has found will do for :data:`_GLANCED_SECONDS`.
        """
        reading, latest = self.begin(), self._latest
        if latest is not None and self._clock() - latest[1] <= _GLANCED_SECONDS:
            within_seconds = 0.0
        else:
            latest = None
        try:
            return reading.result(within_seconds)
        except TookTooLong:
            return latest[0] if latest is not None else None

    def _run(self) -> R:
        found = self._read()
        now = self._clock()
        self._until, self._latest = now + self._seconds, (found, now)
        return found


class _Followed(Generic[R]):
    """Reads of things that somebody follows.

    Each has one read at a time, and only so many are kept. So the number of reads that wait for a thread has a bound.
    """

    def __init__(self, threads: ThreadPoolExecutor, clock: Callable[[], float]) -> None:
        self._threads = threads
        self._clock = clock
        self._lock = threading.Lock()
        self._each: dict[str, _Shared[R]] = {}

    def newest(self, name: str, read: Callable[[], R], within_seconds: float, late: R, refused: R) -> R:
        """Return what was read last of a thing, after a wait for a read that is under way.

        :param late: the answer if nothing is known by then.
        :param refused: the answer if all reads that are kept are of other things, and under way.
        """
        with self._lock:
            shared = self._each.pop(name, None)
            if shared is None and len(self._each) >= _FOLLOWED:
                ended = next((each for each, other in self._each.items() if not other.is_reading), None)
                if ended is None:
                    return refused
                del self._each[ended]
            if shared is None:
                shared = _Shared(read, self._threads, self._clock, FOLLOWED_SHARED_SECONDS)
            self._each[name] = shared  # the last one that somebody asked for
            reading = shared.begin()
        return shared.newest(reading, within_seconds, late)


class ClusterReads:
    """Reads SpokeJobs, PodTemplates and the operator's state of a namespace.

    :param clock: the monotonic clock, in seconds.
    """

    def __init__(self, namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._namespace = namespace
        self._threads = ThreadPoolExecutor(_THREADS, "spoke-web-cluster")
        self._clock = clock
        # A node that does not answer takes a thread for long. So those who follow its pods have threads of their own.
        self._log_threads = ThreadPoolExecutor(_THREADS, "spoke-web-logs")
        self._tails = _Followed[PodTail](self._log_threads, clock)
        self._views = _Followed[ClusterView | None](self._threads, clock)
        self._lock = threading.Lock()
        self._pulls: dict[str, Future[datetime | None]] = {}
        self._all_waits = _Shared(lambda: waits_in(namespace), self._threads, clock)
        self._all_else = _Shared(lambda: namespace_in(namespace), self._threads, clock)

    def view(self, job: JobRequest, *, around: bool) -> ClusterView | None:
        """Read the job's SpokeJob; None if it has none, or if the Kubernetes client is not installed."""
        if job.executor is not Executor.CLUSTER:
            return None
        late: ClusterView | None = ClusterView(
            spokejob_name(job.job_type, job.id, job.uid, job.run), self._namespace, problem=SLOW
        )
        reading = self._threads.submit(lambda: view_of(job, self._namespace, around=around))
        try:
            return reading.result(SECONDS)
        except TookTooLong:
            reading.cancel()  # if it has not begun: nobody waits for it any more
            return late

    def followed_view(self, job: JobRequest, within_seconds: float) -> ClusterView | None:
        """Read the job's SpokeJob alone, or take what was read last, for those who follow the job's output."""
        if job.executor is not Executor.CLUSTER:
            return None
        name = spokejob_name(job.job_type, job.id, job.uid, job.run)
        return self._views.newest(
            name,
            lambda: view_of(job, self._namespace, around=False),
            within_seconds,
            ClusterView(name, self._namespace, problem=NOT_YET),
            ClusterView(name, self._namespace, problem=TOO_MANY),
        )

    def pulled(self, view: ClusterView | None) -> Mapping[str, datetime]:
        """Return when the images of the attempts' pods were pulled, as far as it was read. Read it of the newest one.

        An API server looks through all events of the namespace for it, so each pod is asked about until there is an
        answer, as soon as its container has started, and while the events are there.
        """
        attempts = view.spokejob.status.attempts if view is not None and view.spokejob is not None else ()
        if not attempts:
            return {}
        newest = attempts[-1]
        begun = newest.runs_since if newest.lane != Lane.STANDBY and is_object_name(newest.pod) else None
        age = datetime.now(UTC) - begun if begun is not None else timedelta(0)
        with self._lock:
            if newest.pod not in self._pulls and _EVENTS_ARE_SENT < age < _EVENTS_ARE_KEPT:
                if len(self._pulls) >= _PULLS:
                    del self._pulls[next(iter(self._pulls))]
                self._pulls[newest.pod] = self._threads.submit(pulled_in, newest.pod, self._namespace)
            readings = {each.pod: self._pulls[each.pod] for each in attempts if each.pod in self._pulls}
        wait(readings.values(), SECONDS)
        found = {pod: self._pulled(pod, reading) for pod, reading in readings.items() if reading.done()}
        return {pod: at for pod, at in found.items() if at is not None}

    def _pulled(self, pod: str, reading: Future[datetime | None]) -> datetime | None:
        """Return what a read has found. Forget it if it failed, so that the next page asks again."""
        try:
            return reading.result()
        except (ApiError, ConfigurationError):
            with self._lock:
                if self._pulls.get(pod) is reading:
                    del self._pulls[pod]
            return None

    def tail(self, pod: str, within_seconds: float | None = None) -> PodTail:
        """Read what the job of a pod has printed last, or take what another page has just read.

        :param within_seconds: None for as long as a page waits.
        """
        return self._tails.newest(
            pod,
            lambda: tail_in(pod, self._namespace),
            SECONDS if within_seconds is None else within_seconds,
            PodTail(problem=SLOW if within_seconds is None else NOT_YET),
            PodTail(problem=TOO_MANY),
        )

    def waits(self) -> SpokeJobWaits:
        """Read what SpokeJobs wait for, or take what another page has read of late."""
        return _result(self._all_waits.begin(), SECONDS, SpokeJobWaits(problem=SLOW))

    def namespace(self) -> tuple[NamespaceView, SpokeJobWaits]:
        """Read the state of the namespace and what SpokeJobs wait for, at the same time, likewise."""
        state, waits = self._all_else.begin(), self._all_waits.begin()
        both: list[Future[Any]] = [state, waits]
        wait(both, SECONDS)
        return _result(state, 0, NamespaceView(self._namespace, problem=SLOW)), _result(
            waits, 0, SpokeJobWaits(problem=SLOW)
        )

    def expect_namespace(self) -> None:
        """Begin to read the state of the namespace, for :meth:`glance`."""
        self._all_else.begin()

    def glance(self) -> NamespaceView | None:
        """Return the state of the namespace if it is known by now; None if not.

        A cluster that does not answer holds a page up for :data:`GLANCE_SECONDS` only, and not each one.
        """
        return self._all_else.known(GLANCE_SECONDS)

    def close(self) -> None:
        """Start no more reads."""
        for threads in (self._threads, self._log_threads):
            threads.shutdown(wait=False, cancel_futures=True)


def _result(reading: Future[R], within_seconds: float, late: R) -> R:
    try:
        return reading.result(within_seconds)
    except TookTooLong:
        return late


def read_sync(engine: Engine) -> SyncSign:
    """Read whether a sync is active. SQLite cannot tell."""
    if engine.dialect.name != "postgresql":
        return SyncSign(None)
    with engine.connect().execution_options(**{READ_ONLY: True}) as connection:
        found = active_sync(connection)
    return SyncSign(found is not None, found.since if found is not None else None)
