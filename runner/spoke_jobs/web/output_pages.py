"""The page that shows the output of one job, which browsers also read for the page of that job."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from spoke_jobs.cluster.cluster_view import ClusterView, PodTail
from spoke_jobs.cluster.installed_reads import NOT_INSTALLED
from spoke_jobs.explain.tries import Try, tries
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.model import AttemptState, JobRequest, JobState
from spoke_jobs.web import cluster_reads
from spoke_jobs.web.answers import NOT_FOUND, Answer, Asked, Page, Reading, refusal
from spoke_jobs.web.cluster_reads import ClusterReads
from spoke_jobs.web.live_output import running_pod, shown_output
from spoke_jobs.web.viewer import Viewer

_HIDDEN = refusal("Not allowed", "You may not see what jobs print.", 403)


def tail_of_running(
    cluster: ClusterReads,
    job: JobRequest,
    found: Sequence[Try],
    view: ClusterView | None,
    within_seconds: float | None = None,
) -> PodTail | None:
    """Read what the pod that runs a job has printed last. If that is not possible, say why, or return None.

    :param view: what was read of the job's SpokeJob; None if it has none, or if the Kubernetes client is missing.
    :param within_seconds: how long to wait for it; None for as long as a page waits.
    """
    pod = running_pod(job, found)
    if pod:
        return cluster.tail(pod, within_seconds)
    problem = NOT_INSTALLED if view is None else view.problem
    return PodTail(problem=problem) if problem else None


class OutputPages:
    """Reads the output of jobs, from the ledger or from the pod that runs."""

    def __init__(self, queries: DashboardQueries, cluster: ClusterReads) -> None:
        self._queries = queries
        self._cluster = cluster

    def routes(self) -> Iterable[Reading]:
        """Yield the requests that this answers."""
        yield Reading("/jobs/{job_id}/output", self.output)

    def output(self, viewer: Viewer, asked: Asked) -> Answer:
        """Show the output of the attempt that runs, or of the last one of which some is kept."""
        if not viewer.may_see_output:
            return _HIDDEN
        job_id = asked.id("job_id")
        job = self._queries.job(job_id, viewer.narrowed()) if job_id is not None else None
        if job is None:
            return NOT_FOUND
        runs = job.state is JobState.RUNNING
        until = time.monotonic() + cluster_reads.FOLLOW_SECONDS  # of both reads: browsers ask every few seconds
        view = self._cluster.followed_view(job, cluster_reads.FOLLOW_SECONDS) if runs else None
        spokejob = view.spokejob if view is not None else None
        # While an attempt runs, browsers ask every few seconds, and nothing of earlier ones is shown.
        found = tries(job, self._queries.newest_attempt(job.id), spokejob) if runs else ()
        if not found or found[-1].state != AttemptState.RUNNING:
            found = tries(job, self._queries.attempts(job.id), spokejob, self._queries.reports(job.id))
        rest = max(until - time.monotonic(), 0.0)
        shown = shown_output(job, found, tail_of_running(self._cluster, job, found, view, rest) if runs else None)
        title = f"Output of job {job.id}: {line(job.job_type, 80)}"
        return Page("output.html", {"title": title, "job_id": job.id, "output": shown}, live=True)
