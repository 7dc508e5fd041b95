"""Read the cluster for a page, which waits for it only briefly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from typing import TypeVar

from spoke_jobs.cluster.cluster_view import ClusterView, SpokeJobWaits
from spoke_jobs.cluster.installed_reads import view_of, waits_in
from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.names import spokejob_name
from spoke_jobs.model import JobRequest

SECONDS = 2.0
"""How long a page waits for the cluster."""
SHARED_SECONDS = 10.0
"""For how long pages share what one read of all SpokeJobs has found. A live page asks every few seconds."""
SLOW = f"it did not answer within {SECONDS:g} s"
_THREADS = 4

R = TypeVar("R")


class ClusterReads:
    """Reads SpokeJobs of a namespace.

    :param clock: the monotonic clock, in seconds.
    """

    def __init__(self, namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._namespace = namespace
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, "spoke-web-cluster")
        self._lock = threading.Lock()
        self._all_waits: Future[SpokeJobWaits] | None = None
        self._shared_until = 0.0

    def view(self, job: JobRequest, *, around: bool) -> ClusterView | None:
        """Read the job's SpokeJob; None if it has none, or if the Kubernetes client is not installed."""
        if job.executor is not Executor.CLUSTER:
            return None
        late: ClusterView | None = ClusterView(
            spokejob_name(job.job_type, job.id, job.uid, job.run), self._namespace, problem=SLOW
        )
        return self._within_the_limit(lambda: view_of(job, self._namespace, around=around), late)

    def waits(self) -> SpokeJobWaits:
        """Read what SpokeJobs wait for, or take what another page has read within :data:`SHARED_SECONDS`.

        There is one read at a time, however many pages wait for it.
        """
        with self._lock:
            reading = self._all_waits
            if reading is None or (reading.done() and self._clock() >= self._shared_until):
                reading = self._all_waits = self._threads.submit(self._read_waits)
        try:
            return reading.result(SECONDS)
        except TookTooLong:
            return SpokeJobWaits(problem=SLOW)

    def _read_waits(self) -> SpokeJobWaits:
        found = waits_in(self._namespace)
        self._shared_until = self._clock() + SHARED_SECONDS
        return found

    def close(self) -> None:
        """Start no more reads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _within_the_limit(self, read: Callable[[], R], late: R) -> R:
        reading = self._threads.submit(read)
        try:
            return reading.result(SECONDS)
        except TookTooLong:
            reading.cancel()  # if it has not begun: nobody waits for it any more
            return late
