"""What the page shows that cancels or retries all jobs which filters select. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spoke_jobs.explain.changes import kinds_of
from spoke_jobs.explain.words import count, line
from spoke_jobs.ledger.reading.queries import SelectedJob
from spoke_jobs.web.job_search import FILTER_LABELS, JobSearch, address
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
    others: tuple[str, str]
    """A link to the same action with, or without, the jobs that somebody cancelled: address and text; may be empty."""
    back: str
    """The address of the list of these jobs."""


def preview(
    action: JobAction,
    search: JobSearch,
    selected: Sequence[SelectedJob],
    *,
    most: int,
    at_once: int,
    cancelled: int = 0,
    with_cancelled: bool = False,
) -> BulkPreview:
    """Describe what the action would change.

    :param selected: the jobs, oldest first, and one more than ``most`` if there are more.
    :param at_once: how many jobs one confirmation changes.
    :param cancelled: how many jobs are left out because somebody cancelled them.
    :param with_cancelled: whether such jobs are among the selected ones.
    """
    shown = selected[-most:]
    number = f"{len(shown):,}{'+' if len(selected) > most else ''}"
    jobs = "job" if len(selected) == 1 else "jobs"
    notes = []
    if len(selected) > most:
        notes.append(f"The newest {most:,} jobs were counted; there are more.")
    if len(selected) > at_once:
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
    elif cancelled:
        number_of_them = f"{min(cancelled, most):,}{'+' if cancelled > most else ''}"
        are = "job that somebody cancelled is" if cancelled == 1 else "jobs that somebody cancelled are"
        others = (address(path, **search.given, cancelled="yes"), f"{number_of_them} {are} left out: retry also these.")
    return BulkPreview(
        action.value,
        f"{action.value.capitalize()} {number} {jobs}",
        tuple((FILTER_LABELS[name], line(text)) for name, text in search.given.items()),
        tuple(kinds_of(shown)),
        tuple(notes),
        doing if selected else "",
        address("", **given).removeprefix("?"),
        selected[-1].id if selected else 0,
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
    back: str


def result(
    action: JobAction,
    given: Mapping[str, str],
    done: int,
    problems: Sequence[tuple[int, str]],
    next_up_to: int | None,
    passed_over: int = 0,
) -> BulkResult:
    """Describe what the action has changed.

    :param given: what was chosen in the preview.
    :param problems: the jobs that were not changed, and why.
    :param next_up_to: the newest one of the jobs that the next page offers; None if there is none.
    :param passed_over: how many jobs were not tried, and are not offered by the next page.
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
        address("/jobs", **{name: text for name, text in given.items() if name in FILTER_LABELS}),
    )
