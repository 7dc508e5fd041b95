"""The pages: read what a viewer may see, and change jobs for them. These functions block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from spoke_jobs.cluster.cluster_view import ClusterView, PodTail, SpokeJobWaits
from spoke_jobs.cluster.installed_reads import NOT_INSTALLED
from spoke_jobs.contract.executors import Executor
from spoke_jobs.errors import DependencyNotMet, UniquenessConflict
from spoke_jobs.explain.changes import Change, cancelled, retried
from spoke_jobs.explain.groups import groups, has_spokejobs
from spoke_jobs.explain.job_details import details
from spoke_jobs.explain.tries import Try, tries
from spoke_jobs.explain.why import explain, is_explained_by_cluster
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.job_batch import Batch, BatchFilter
from spoke_jobs.ledger.reading.chart_periods import PERIODS
from spoke_jobs.ledger.reading.crowd_facts import Crowd
from spoke_jobs.ledger.reading.dashboard_queries import AHEAD, GROUPED, DashboardQueries, JobPage, RecentNames
from spoke_jobs.ledger.reading.dependency_queries import LINKS
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import AttemptState, JobRequest, JobState
from spoke_jobs.web import cluster_reads, job_views, overview_views
from spoke_jobs.web.answers import (
    LATER,
    NOT_FOUND,
    PAYLOAD_LIMIT_BYTES,
    Acting,
    Answer,
    Asked,
    Page,
    Reading,
    Redirect,
    refusal,
    unchanged_job,
)
from spoke_jobs.web.cluster_reads import ClusterReads, read_sync
from spoke_jobs.web.job_search import read_search
from spoke_jobs.web.live_output import running_pod, shown_output
from spoke_jobs.web.process_views import (
    ProcessItem,
    operator_process,
    sync_process,
    task_processes,
    worker_processes,
)
from spoke_jobs.web.schedule_views import schedule_troubles
from spoke_jobs.web.suggested_names import SuggestedNames
from spoke_jobs.web.view_parts import NO_SYNC, SyncSign
from spoke_jobs.web.viewer import STANDS_IN_THE_WAY, JobAction, Viewer, shown_job, shown_situation

PER_PAGE = 50
_FAILED_SECONDS = 86_400.0
_EVENTS = 10
_HIDDEN = refusal("Not allowed", "You may not see what jobs print.", 403)
SAID = {
    "cancelled": "The job was cancelled.",
    "asked": "The job was asked to stop.",
    "retried": "The job starts again.",
    "run-now": "The job is due now.",
    "priority": "The job has this priority now.",
    "suspend": "The job is suspended. A running attempt goes on.",
    "resume": "The job is no longer suspended.",
    "dispatched": "Its schedule has dispatched this job now.",
    "repeated": "Its schedule has dispatched this job. The same form was sent again, and dispatched no other one.",
}
"""What a page says after an action, by a word in its address."""


class Pages:
    """Reads and changes jobs in a database."""

    def __init__(
        self, ledger: SqlLedger, queries: DashboardQueries, cluster: ClusterReads, suggested: SuggestedNames
    ) -> None:
        self._ledger = ledger
        self._queries = queries
        self._cluster = cluster
        self._suggested = suggested

    def routes(self) -> Iterable[Reading | Acting]:
        """Yield the requests that this answers."""
        yield Reading("/", self.overview, too_slow=LATER)
        yield Reading("/jobs", self.jobs)
        yield Reading("/jobs/{job_id}", self.job)
        yield Reading("/jobs/{job_id}/output", self.output)
        for action in (JobAction.CANCEL, JobAction.RETRY):
            yield Acting(f"/jobs/{{job_id}}/{action}", partial(self.act, action), action)

    def overview(self, viewer: Viewer, asked: Asked) -> Answer:
        """Show all jobs, by state and by reason."""
        which = viewer.narrowed()
        within = asked.given.get("within", "")
        period = PERIODS[within if within in overview_views.ENDED_WITHIN else overview_views.ENDED_WITHIN[0]]
        if viewer.sees_all:
            self._cluster.expect_namespace()
        crowd = self._queries.crowd(_FAILED_SECONDS, which, GROUPED, overview_views.GROUPS_SHOWN)
        crowd = replace(crowd, now=crowd.now.astimezone(asked.zone))
        waits = self._cluster.waits() if viewer.sees_all and has_spokejobs(crowd) else None
        troubles = schedule_troubles(self._queries.perhaps_troubled(viewer.organizations), viewer)
        sync = read_sync(self._ledger.engine)
        view = overview_views.overview(
            crowd,
            self._queries.counts(which),
            groups(crowd, waits.waiting if waits else (), overview_views.GROUPS_SHOWN + 1),
            self._queries.due(which),
            self._queries.ended(which, period),
            viewer,
            processes=tuple(self._processes(viewer, crowd, waits, sync)),
            sync=NO_SYNC if sync.active is False and _in_pods(crowd) else "",
            schedules=troubles,
            cluster_problem=waits.problem if waits else "",
        )
        return Page("overview.html", {"title": "Overview", "view": view}, live=True)

    def jobs(self, viewer: Viewer, asked: Asked) -> Answer:
        """List jobs."""
        search = read_search(asked.given, asked.zone)
        if search.job_id is not None and not search.problems:
            return Redirect(f"/jobs/{search.job_id}")
        names = self._suggested.of(viewer)
        if search.problems:
            empty = JobPage(self._queries.now(), (), newer=None, older=None)
            return Page("jobs.html", {"title": "Jobs", "view": _listed(empty, search, viewer, names)}, 400)
        page = self._queries.page(viewer.narrowed(search.which), PER_PAGE, search.place)
        return Page("jobs.html", {"title": "Jobs", "view": _listed(page, search, viewer, names)}, live=True)

    def job(self, viewer: Viewer, asked: Asked) -> Answer:
        """Show one job."""
        job_id = asked.id("job_id")
        found = self._found(viewer, job_id) if job_id is not None else None
        situation = self._queries.situation(job_id, AHEAD) if found is not None and job_id is not None else None
        if job_id is None or found is None or situation is None:
            return NOT_FOUND
        job, now = shown_job(found, viewer), situation.now.astimezone(asked.zone)
        asks = not job.state.final or is_explained_by_cluster(job)
        cluster = self._cluster.view(job, around=asks and viewer.sees_all)
        links = self._queries.links(job_id)
        dependents = self._queries.dependents(job_id)
        batches = self._batches(viewer, job)
        others = {
            *(link.needs_id for link in links),
            *(dependent.job_id for dependent in dependents),
            *(batch.then_id for batch in batches if batch.then_id is not None),
        }
        visible = self._queries.selected_of(others, viewer.narrowed())
        saved = self._queries.saved(job_id)
        events = self._queries.events(_EVENTS, EventFilter(job_id=job_id))
        shown = details(
            job,
            self._queries.attempts(job_id),
            now,
            cluster,
            self._queries.reports(job_id),
            events,
            saved,
            [link for link in links if link.needs_id in visible],
            with_payload=viewer.may_see_payloads,
            with_result=viewer.may_see_payloads,
            zone=asked.zone,
        )
        view = job_views.job_view(
            shown,
            explain(shown_situation(replace(situation, now=now), viewer), cluster),
            now,
            viewer,
            cluster=cluster,
            around=job_views.Around(
                tuple(each for each in dependents if each.job_id in visible),
                tuple(batches),
                frozenset(visible),
                # To others it would say that there are jobs that they may not see.
                more=viewer.sees_all and len(dependents) >= LINKS,
            ),
            usages=self._queries.usage_of(job.job_type, viewer.narrowed()).usages,
            has_checkpoints=bool(saved),
            events=events,
            pulled=self._cluster.pulled(cluster),
            pod_tail=tail_of_running(self._cluster, job, shown.tries, cluster) if viewer.may_see_output else None,
        )
        title = f"Job {job_id}: {line(job.job_type, 80)}"
        return Page(
            "job.html", {"title": title, "view": view, "said": SAID.get(asked.given.get("said", ""), "")}, live=True
        )

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

    def act(self, action: JobAction, viewer: Viewer, asked: Asked) -> Answer:
        """Cancel or retry a job."""
        job_id = asked.id("job_id")
        before = self._queries.job(job_id, viewer.narrowed()) if job_id is not None else None
        if job_id is None or before is None:
            return NOT_FOUND
        by = actor_name(line(viewer.name))
        said: Callable[[JobRequest, JobRequest], Change] = cancelled if action is JobAction.CANCEL else retried
        try:
            if action is JobAction.CANCEL:
                after = self._ledger.cancel(job_id, by)
            else:
                clear = asked.given.get("clear_checkpoints") == "yes"
                after = self._ledger.retry(job_id, by, clear_checkpoints=clear)
        except (DependencyNotMet, UniquenessConflict) as error:  # the texts name the other job
            return unchanged_job(job_id, str(error) if viewer.sees_all else STANDS_IN_THE_WAY)
        if after is None:
            return NOT_FOUND
        change = said(before, after)
        if not change.done:
            return unchanged_job(job_id, change.text)
        return Redirect(f"/jobs/{job_id}?said={_word(action, after)}")

    def _processes(
        self, viewer: Viewer, crowd: Crowd, waits: SpokeJobWaits | None, sync: SyncSign
    ) -> Iterable[ProcessItem]:
        """Describe the processes. The operator and the task deployment serve all organizations."""
        needed = _in_pods(crowd)
        yield from worker_processes(self._queries.workers(viewer.narrowed()), crowd.now)
        claims = self._queries.claiming_replicas() if viewer.sees_all else []
        replicas = self._queries.task_replicas() if viewer.sees_all else []
        view = self._cluster.glance() if viewer.sees_all else None  # last, so that it had the time of the other reads
        uses_pods = needed or (view is not None and view.publication is not None)
        yield from sync_process(sync, crowd.now, needed=uses_pods)
        if viewer.sees_all:
            yield from operator_process(view, waits, crowd.now, needed=needed)
            yield from task_processes(replicas, claims, crowd.now)

    def _batches(self, viewer: Viewer, job: JobRequest) -> list[Batch]:
        """Read the batches that a job is in or follows, as far as the viewer may see them."""
        found = [BatchFilter(then_id=job.id, organizations=viewer.organizations)]
        if job.batch_id is not None:
            found.append(BatchFilter(id=job.batch_id, organizations=viewer.organizations))
        return [batch for which in found for batch in self._queries.batches(which, 1).batches]

    def _found(self, viewer: Viewer, job_id: int) -> JobRequest | None:
        """Get a job that the viewer may see, with its payload if they may see that and it is not large."""
        most = PAYLOAD_LIMIT_BYTES if viewer.may_see_payloads else 0
        return self._queries.job(job_id, viewer.narrowed(), payload_bytes=most)


def _word(action: JobAction, after: JobRequest) -> str:
    if action is JobAction.RETRY:
        return "retried"
    return "cancelled" if after.state.final else "asked"


def _listed(page: JobPage, search: Any, viewer: Viewer, names: RecentNames) -> job_views.JobList:
    return job_views.job_list(page, search, viewer, names.types, names.queues)


def _in_pods(crowd: Crowd) -> bool:
    """Whether a job waits for a pod."""
    return any(each.kind.executor is Executor.CLUSTER for each in crowd.waiting)


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
