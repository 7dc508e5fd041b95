"""What the page *Overview* shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from spoke_jobs.explain.groups import Group, tried_again
from spoke_jobs.explain.words import agreeing, count, line
from spoke_jobs.ledger.reading.chart_periods import PERIODS
from spoke_jobs.ledger.reading.crowd_facts import Crowd
from spoke_jobs.ledger.reading.dashboard_queries import GROUPED, CappedCount
from spoke_jobs.ledger.reading.due_counts import EXAMINED, DueCounts
from spoke_jobs.ledger.reading.ended_counts import EndedJobs
from spoke_jobs.model import JobState
from spoke_jobs.web.job_search import address
from spoke_jobs.web.process_views import WORKER, ProcessItem
from spoke_jobs.web.sparklines import Sparkline, ended_charts, ended_notes
from spoke_jobs.web.view_parts import (
    NO_TROUBLES,
    GroupItem,
    ScheduleTroubles,
    StateCount,
    When,
    capped,
    failures_note,
    group_item,
)
from spoke_jobs.web.viewer import Viewer, shown_group

GROUPS_SHOWN = 20
"""The most groups of waiting jobs, and of failed ones, that the overview shows: the largest ones."""
ENDED_WITHIN = ("1h", "1d", "7d")
"""The periods in which ended jobs are shown, by their words in the address. The first one is shown if none is given."""
_PROBLEM_LIMIT = 200


@dataclass(frozen=True, slots=True)
class OldestItem:
    """A job that waits for long."""

    job_id: int
    job_type: str
    due: When


@dataclass(frozen=True, slots=True)
class DueShare:
    """The due jobs of one type, or of one organization."""

    name: str
    number: str
    path: str
    """The address of the list of its waiting jobs."""


@dataclass(frozen=True, slots=True)
class DueJobs:
    """The due jobs, and who has the most of them."""

    number: str
    types: tuple[DueShare, ...]
    organizations: tuple[DueShare, ...]


@dataclass(frozen=True, slots=True)
class EndedView:
    """The jobs that ended in a period."""

    heading: str
    periods: tuple[tuple[str, str, bool], ...]
    """Links to all periods: addresses, texts, and whether it is the shown one."""
    charts: tuple[Sparkline, ...]
    """How many ended, how many failed without being cancelled, how long they waited and ran."""
    notes: tuple[str, ...]
    """What the charts were not made of."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The first page."""

    counts: tuple[StateCount, ...]
    waiting: tuple[GroupItem, ...]
    failed: tuple[GroupItem, ...]
    due: DueJobs | None
    """None if no job is due."""
    schedules: ScheduleTroubles
    ended: EndedView
    oldest: tuple[OldestItem, ...]
    processes: tuple[ProcessItem, ...]
    """What is alive, and what should be."""
    has_workers: bool
    sync: str
    """That sync is not alive, and what follows; empty if it is alive, or is not needed."""
    notes: tuple[str, ...]
    """What could not be read, or is not complete."""
    is_empty: bool
    """Whether there is no job at all."""
    no_failures: str = ""
    """What is said in place of groups of failures."""


def overview(
    crowd: Crowd,
    counts: Mapping[JobState, CappedCount],
    groups: Iterable[Group],
    due: DueCounts,
    ended: EndedJobs,
    viewer: Viewer,
    *,
    processes: tuple[ProcessItem, ...] = (),
    schedules: ScheduleTroubles = NO_TROUBLES,
    sync: str = "",
    cluster_problem: str = "",
) -> Overview:
    """Describe all jobs that the viewer may see.

    :param crowd: what the groups are made of.
    :param groups: the largest ones of each state, at most one more than are shown.
    """
    now = crowd.now
    shown = [shown_group(group, viewer) for group in groups]
    waiting, failed = (
        [group for group in shown if (group.state == "failed") is of_failed] for of_failed in (False, True)
    )
    notes = [f"The cluster could not be read: {line(cluster_problem, _PROBLEM_LIMIT)}"] if cluster_problem else []
    if crowd.more_waiting:
        notes.append(f"Of the waiting and the blocked jobs, {GROUPED:,} of each were grouped; there may be more.")
    if due.more:
        notes.append(f"The due jobs were counted among the first {EXAMINED:,} waiting jobs; there may be more.")
    notes += failures_note(crowd)
    for what, found in (("waiting", waiting), ("failed", failed)):
        if len(found) > GROUPS_SHOWN:
            notes.append(f"These are the {GROUPS_SHOWN} largest groups of {what} jobs; there are more.")
    return Overview(
        tuple(StateCount(state.value, capped(counts[state]), address("/jobs", state=state)) for state in counts),
        tuple(group_item(group, now, viewer, sees_limits=viewer.sees_all) for group in waiting[:GROUPS_SHOWN]),
        tuple(group_item(group, now, viewer) for group in failed[:GROUPS_SHOWN]),
        _due(due) if due.number else None,
        schedules,
        _ended(ended),
        tuple(OldestItem(job.job_id, line(job.job_type), When.of(job.due_at, now)) for job in due.oldest),
        processes,
        any(each.kind == WORKER for each in processes),
        sync,
        tuple(notes),
        not any(number.number or number.more for number in counts.values()),
        no_failures(crowd, counts),
    )


def no_failures(crowd: Crowd, counts: Mapping[JobState, CappedCount]) -> str:
    """Say that no job failed for good in the last 24 hours, and what is no such failure."""
    said = ["No job failed for good in the last 24 hours."]
    again = tried_again(crowd)
    if again:
        have = f"{'At least ' if crowd.more_waiting else ''}{count(again, 'job has', 'jobs have')}"
        said.append(f"{have} failed and {agreeing(again, 'is', 'are')} tried again.")
    older = counts.get(JobState.FAILED)
    if older is not None and older.number:
        said.append(f"Earlier, {capped(older)} {agreeing(older.number, 'job', 'jobs')} failed.")
    return " ".join(said)


def _due(due: DueCounts) -> DueJobs:
    return DueJobs(
        f"{due.number:,}{'+' if due.more else ''}",
        tuple(
            DueShare(line(name) or "(no type)", f"{number:,}", address("/jobs", state="waiting", type=name))
            for name, number in due.types
        ),
        tuple(
            DueShare(str(name), f"{number:,}", address("/jobs", state="waiting", organization=name))
            for name, number in due.organizations
        ),
    )


def _ended(ended: EndedJobs) -> EndedView:
    period = ended.period
    return EndedView(
        f"Ended in the last {period.text}, by {period.bar_text}",
        tuple(
            (f"{address('/', within=name)}#ended", f"last {PERIODS[name].text}", PERIODS[name] == period)
            for name in ENDED_WITHIN
        ),
        tuple(ended_charts(ended)),
        tuple(ended_notes(ended)),
    )
