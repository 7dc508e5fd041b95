"""The documents of the JSON API: those of the command line's `--json`, as far as a viewer may see them. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from spoke_jobs.cluster.cluster_view import ClusterView
from spoke_jobs.explain.counts_json import Batches, BatchState, Events
from spoke_jobs.explain.groups import Group
from spoke_jobs.explain.groups_json import ReasonGroups
from spoke_jobs.explain.job_details import tree
from spoke_jobs.explain.json_output import Explained, Jobs, Shown
from spoke_jobs.explain.reasons import Explanation
from spoke_jobs.explain.schedules_json import ScheduleProblem, Schedules, schedule_problems
from spoke_jobs.ledger.audit.audit_events import Event
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.reading.dashboard_queries import SchedulePage
from spoke_jobs.ledger.reading.dependency_queries import Link
from spoke_jobs.ledger.schedules.schedule_rows import ScheduleRow, without_payload
from spoke_jobs.model import Attempt, AttemptReport, JobRequest, Saved
from spoke_jobs.web.answers import PAYLOAD_LIMIT_BYTES
from spoke_jobs.web.viewer import Viewer, shown_event, shown_explanation, shown_group, shown_job, shown_schedule

FOLLOWING = 5
"""How many due times of a schedule are listed."""
PROBLEMS = 50
"""The most schedules with a problem that are listed."""


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


def grouped(
    groups: Iterable[Group],
    period_seconds: float,
    troubled: Iterable[SchedulePage],
    viewer: Viewer,
    incomplete: Sequence[str] = (),
) -> ReasonGroups:
    """Return what `why --json` prints without an id.

    :param troubled: the schedules that may have a problem. They are read as far as necessary.
    """
    return ReasonGroups.of(
        [shown_group(group, viewer) for group in groups],
        period_seconds,
        [*islice(_problems(troubled, period_seconds, viewer), PROBLEMS)],
        incomplete,
    )


def _problems(troubled: Iterable[SchedulePage], period_seconds: float, viewer: Viewer) -> Iterator[ScheduleProblem]:
    for page in troubled:
        rows = [shown_schedule(row, viewer) for row in page.rows]
        for found in schedule_problems(rows, page.now, period_seconds):
            # The advice is about commands, which reach the schedules of all organizations.
            yield found if viewer.sees_all else found.model_copy(update={"advice": ""})


def listed_schedules(page: SchedulePage, visible: Collection[int], viewer: Viewer) -> Schedules:
    """Return what `schedules ls --json` prints.

    :param visible: the newest jobs of the schedules, as far as the viewer may see them.
    """
    rows = [_schedule(shown_schedule(row, viewer), visible, viewer) for row in page.rows]
    return Schedules.of(rows, page.now, FOLLOWING)


def _schedule(row: ScheduleRow, visible: Collection[int], viewer: Viewer) -> ScheduleRow:
    definition = row.definition
    if not viewer.may_see_payloads or not _is_within(definition, PAYLOAD_LIMIT_BYTES):
        definition = without_payload(definition)
    return replace(row, definition=definition, last_job_id=row.last_job_id if row.last_job_id in visible else None)


def _is_within(value: Any, size: int) -> bool:
    """Whether a JSON value takes at most so many bytes."""
    try:
        return len(json.dumps(value)) <= size
    except RecursionError:
        return False


def shown_batch(batch: Batch, visible: Collection[int]) -> BatchState:
    """Return what `batches show --json` prints.

    :param visible: the jobs that follow batches, as far as the viewer may see them.
    """
    return BatchState.of(batch if batch.then_id in visible else replace(batch, then_id=None))


def listed_batches(batches: Iterable[Batch], visible: Collection[int]) -> Batches:
    """Return what `batches ls --json` prints."""
    return Batches(batches=tuple(shown_batch(batch, visible) for batch in batches))


def listed_events(events: Iterable[Event], viewer: Viewer) -> Events:
    """Return what `events --json` prints."""
    return Events.of([shown_event(event, viewer) for event in events])
