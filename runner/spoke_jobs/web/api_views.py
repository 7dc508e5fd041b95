"""The documents of the JSON API: those of the command line's `--json`, as far as a viewer may see them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.explain.job_details import tree
from spoke_jobs.explain.json_output import Explained, Jobs, Shown
from spoke_jobs.explain.reasons import Explanation
from spoke_jobs.ledger.reading.dependency_queries import Link
from spoke_jobs.model import Attempt, AttemptReport, JobRequest, Saved
from spoke_jobs.web.viewer import Viewer, shown_explanation, shown_job


def shown_row(job: JobRequest, viewer: Viewer) -> JobRequest:
    """Return the job without a result that the viewer may not see, and without the names of others' jobs."""
    shown = shown_job(job, viewer)
    return shown if viewer.may_see_payloads else shown.evolve(result=None)


def listed_jobs(jobs: Iterable[JobRequest], viewer: Viewer) -> Jobs:
    """Return what `ls --json` prints."""
    return Jobs.of([shown_row(job, viewer) for job in jobs])


def job_shown(
    job: JobRequest,
    attempts: Sequence[Attempt],
    cluster: ClusterView | None,
    reports: Sequence[AttemptReport],
    saved: Sequence[Saved],
    links: Sequence[Link],
    visible: Collection[int],
    viewer: Viewer,
    *,
    with_payload: bool,
) -> Shown:
    """Return what `show --json` prints.

    :param visible: the jobs that it depends on, as far as the viewer may see them. Below others, none is named.
    """
    if not viewer.may_see_output:
        attempts = [replace(attempt, output_tail="") for attempt in attempts]
        reports = [replace(report, outputs=()) for report in reports]
    reached = {link for _, link in tree(job.id, [link for link in links if link.needs_id in visible])}
    return Shown.of(
        shown_row(job, viewer),
        attempts,
        cluster,
        reports,
        saved,
        [link for link in links if link in reached],
        with_payload=with_payload and viewer.may_see_payloads,
    )


def job_explained(job: JobRequest, explanation: Explanation, viewer: Viewer) -> Explained:
    """Return what `why ID --json` prints."""
    return Explained.of(shown_row(job, viewer), shown_explanation(explanation, viewer))
