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
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.model import JobRequest
from spoke_jobs.sync.writer import active_sync
from spoke_jobs.web.view_parts import SyncSign

SECONDS = 2.0
"""How long a page waits for the cluster."""
SHARED_SECONDS = 10.0
"""For how long pages share what one read of the whole namespace has found. A live page asks every few seconds."""
GLANCE_SECONDS = 0.1
"""How long a page waits for what it can do without, beyond the time that its other reads take."""
_GLANCED_SECONDS = 30.0
"""For how long such a page shows what the last read has found while the next one is under way."""
SLOW = f"it did not answer within {SECONDS:g} s"
_THREADS = 4
TAIL_SHARED_SECONDS = 2.0
"""For how long those who follow the output of a pod share what one read has found."""
_TAILS = 20
"""Of how many pods the last lines are kept, for those who follow them."""
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

    def begin(self) -> Future[R]:
        """Return the read that is under way, or whose result is shared, or begin one."""
        with self._lock:
            reading = self._reading
            if reading is None or (reading.done() and self._clock() >= self._until):
                reading = self._reading = self._threads.submit(self._run)
        return reading

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
        self._tails: dict[str, _Shared[PodTail]] = {}
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

    def pulled(self, view: ClusterView | None) -> Mapping[str, datetime]:
        """Read when the image of the newest attempt's pod was pulled, or take what another page has read.

        An API server looks through all events of the namespace for it, so each pod is asked about once, as soon as its
        container has started, and while the events are there.
        """
        attempts = view.spokejob.status.attempts if view is not None and view.spokejob is not None else ()
        newest = attempts[-1] if attempts else None
        if newest is None or newest.runs_since is None or newest.lane == Lane.STANDBY or not is_object_name(newest.pod):
            return {}
        age = datetime.now(UTC) - newest.runs_since
        with self._lock:
            if newest.pod not in self._pulls and _EVENTS_ARE_SENT < age < _EVENTS_ARE_KEPT:
                if len(self._pulls) >= _PULLS:
                    del self._pulls[next(iter(self._pulls))]
                self._pulls[newest.pod] = self._threads.submit(pulled_in, newest.pod, self._namespace)
            reading = self._pulls.get(newest.pod)
        at = _result(reading, SECONDS, None) if reading is not None else None
        return {newest.pod: at} if at is not None else {}

    def tail(self, pod: str) -> PodTail:
        """Read what the job of a pod has printed last, or take what another page has just read."""
        with self._lock:
            shared = self._tails.pop(pod, None)
            if shared is None:
                shared = _Shared(
                    lambda: tail_in(pod, self._namespace), self._log_threads, self._clock, TAIL_SHARED_SECONDS
                )
            self._tails[pod] = shared  # the last one that somebody asked for
            while len(self._tails) > _TAILS:
                del self._tails[next(iter(self._tails))]
        return _result(shared.begin(), SECONDS, PodTail(problem=SLOW))

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
