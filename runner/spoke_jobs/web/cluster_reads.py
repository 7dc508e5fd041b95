"""Read the cluster for a page, which waits for it only briefly."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from typing import TypeVar

from spoke_jobs.cluster.cluster_view import ClusterView, SpokeJobWaits
from spoke_jobs.cluster.installed_reads import view_of, waits_in
from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.names import spokejob_name
from spoke_jobs.model import JobRequest

SECONDS = 2.0
"""How long a page waits for the cluster."""
SLOW = f"it did not answer within {SECONDS:g} s"
_THREADS = 4

R = TypeVar("R")


class ClusterReads:
    """Reads SpokeJobs of a namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._threads = ThreadPoolExecutor(_THREADS, "spoke-web-cluster")

    def view(self, job: JobRequest, *, around: bool) -> ClusterView | None:
        """Read the job's SpokeJob; None if it has none, or if the Kubernetes client is not installed."""
        if job.executor is not Executor.CLUSTER:
            return None
        late: ClusterView | None = ClusterView(
            spokejob_name(job.job_type, job.id, job.uid, job.run), self._namespace, problem=SLOW
        )
        return self._within_the_limit(lambda: view_of(job, self._namespace, around=around), late)

    def waits(self) -> SpokeJobWaits:
        """Read what SpokeJobs wait for."""
        return self._within_the_limit(lambda: waits_in(self._namespace), SpokeJobWaits(problem=SLOW))

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
