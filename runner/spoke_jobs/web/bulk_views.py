"""What the page shows that cancels or retries all jobs which filters select. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spoke_jobs.explain.changes import kinds_of
from spoke_jobs.explain.words import count, line
from spoke_jobs.ledger.reading.dashboard_queries import SelectedJobs
from spoke_jobs.web.job_search import FILTERS, JobSearch, address
from spoke_jobs.web.viewer import JobAction

_PROBLEMS = 10
"""The most jobs whose problems are told one by one."""


@dataclass(frozen=True, slots=True)
class BulkPreview:
    """What an action would change."""

    action: str
    heading: str
    filters: tuple[tuple[str, str], ...]
    """The filters: their labels, and what was given."""
    kinds: tuple[str, ...]
    """How many jobs of each type and state."""
    notes: tuple[str, ...]
    button: str
    """Empty if no job is selected."""
    query: str
    """The filters, for the form. It is ASCII: other texts change when a page shows them."""
    up_to: int
    """The newest job that is meant: one of those that are shown. Another id would tell when jobs of others are
    dispatched."""
    down_to: int
    """The oldest job that is meant; 0 if all older ones are."""
    older: str
    """The address of the preview of older jobs, among which there are or may be more; empty if there are none."""
    none: str
    """What the page says if no job is selected."""
    others: tuple[str, str]
    """A link to the same action with, or without, the jobs that somebody cancelled: address and text; may be empty."""
    back: str
    """The address of the list of these jobs."""


def preview(
    action: JobAction,
    search: JobSearch,
    selected: SelectedJobs,
    *,
    most: int,
    at_once: int,
    with_cancelled: bool = False,
) -> BulkPreview:
    """Describe what the action would change.

    :param most: how many jobs are selected at most.
    :param at_once: how many jobs one confirmation changes.
    :param with_cancelled: whether jobs that somebody cancelled are among the selected ones.
    """
    shown, more = selected.jobs, selected.down_to is not None
    number = f"{len(shown):,}{'+' if shown and more else ''}"
    jobs = "job" if len(shown) == 1 and not more else "jobs"
    notes = []
    if selected.looked is not None:
        notes.append(f"These filters were compared with {selected.looked:,} jobs. Older jobs may match, too.")
    elif more:
        notes.append(f"The newest {most:,} jobs were counted; there are more.")
    if len(shown) > at_once:
        notes.append(f"One confirmation changes the newest {at_once:,}. The next page offers to go on.")
    acted = min(len(shown), at_once)
    doing = f"{action.value.capitalize()} {acted:,} {'job' if acted == 1 else 'jobs'}"
    if acted < len(shown):
        doing = f"{action.value.capitalize()} the newest {acted:,} of {number} jobs"
    given = dict(search.given) | ({"cancelled": "yes"} if with_cancelled else {})
    path = f"/bulk/{action}"
    others = ("", "")
    if with_cancelled:
        others = (address(path, **search.given), "Leave out the jobs that somebody cancelled.")
    elif selected.cancelled:
        number_of_them = f"{selected.cancelled:,}{'+' if more else ''}"
        are = "job that somebody cancelled is" if number_of_them == "1" else "jobs that somebody cancelled are"
        others = (address(path, **search.given, cancelled="yes"), f"{number_of_them} {are} left out: retry also these.")
    return BulkPreview(
        action.value,
        f"{action.value.capitalize()} {number} {jobs}",
        tuple((FILTERS[name].label, line(text)) for name, text in search.given.items()),
        tuple(kinds_of(shown)),
        tuple(notes),
        doing if shown else "",
        address("", **given).removeprefix("?"),
        shown[-1].id if shown else 0,
        selected.down_to or 0,
        address(path, **given, up_to=selected.down_to - 1) if selected.down_to else "",
        f"None of these jobs can be {'cancelled' if action is JobAction.CANCEL else 'retried'}."
        if more
        else "No job that these filters select can be changed so.",
        others,
        address("/jobs", **search.given),
    )


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What an action has changed."""

    done: str
    problems: tuple[tuple[int, str], ...]
    """The ids of jobs that were not changed, and why; the first ones."""
    more_problems: str
    """How many more there are; empty if none."""
    not_tried: str
    """How many jobs were passed over because the time was over; empty if none."""
    again: str
    """The address of the page that goes on with the jobs that are left; empty if none are."""
    go_on: str
    """What its link says."""
    back: str


def result(
    action: JobAction,
    given: Mapping[str, str],
    done: int,
    problems: Sequence[tuple[int, str]],
    next_up_to: int | None,
    passed_over: int = 0,
    *,
    perhaps: bool = False,
) -> BulkResult:
    """Describe what the action has changed.

    :param given: what was chosen in the preview.
    :param problems: the jobs that were not changed, and why.
    :param next_up_to: the newest one of the jobs that the next page offers; None if there is none.
    :param passed_over: how many jobs were not tried, and are not offered by the next page.
    :param perhaps: whether the next page may offer none, because the filters were not compared with older jobs yet.
    """
    others = count(passed_over, "other job of this part was", "other jobs of this part were")
    verb = "cancelled or asked to stop" if action is JobAction.CANCEL else "started again"
    more = len(problems) - _PROBLEMS
    return BulkResult(
        f"{count(done, 'job was', 'jobs were')} {verb}.",
        tuple(problems[:_PROBLEMS]),
        f"{more:,} more were not changed." if more > 0 else "",
        f"The time was over: {others} not tried. Choose narrower filters to reach them." if passed_over else "",
        "" if next_up_to is None else address(f"/bulk/{action}", **given, up_to=next_up_to),
        "Older jobs may match, too: go on" if perhaps else "There are more jobs: go on",
        address("/jobs", **{name: text for name, text in given.items() if name in FILTERS}),
    )
