"""Cancel or retry all jobs that filters select: first a preview, then what was confirmed. These functions block."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qsl

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.errors import DependencyNotMet, UniquenessConflict
from spoke_jobs.explain.changes import Change, cancelled, kinds_of, retried
from spoke_jobs.explain.words import count, line
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.engine import is_locked, is_timed_out
from spoke_jobs.ledger.many_jobs import cancellable, dependents_first, in_turn, retryable
from spoke_jobs.ledger.reading.dashboard_queries import CAP, DashboardQueries, SelectedJobs
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import ANY_JOB, JobFilter
from spoke_jobs.web.answers import Acting, Answer, Asked, Page, Reading, refusal
from spoke_jobs.web.job_search import FILTERS, JobSearch, address, read_search
from spoke_jobs.web.query_values import whole_number
from spoke_jobs.web.viewer import STANDS_IN_THE_WAY, JobAction, Viewer

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


AT_ONCE = 500
"""How many jobs one confirmation changes."""
SECONDS = 10.0
"""How long one confirmation goes on. The jobs that are left are offered again."""


class BulkPages:
    """Previews and confirmations."""

    def __init__(self, ledger: SqlLedger, queries: DashboardQueries) -> None:
        self._ledger = ledger
        self._queries = queries

    def routes(self) -> Iterable[Reading | Acting]:
        """Yield the requests that this answers."""
        for action in (JobAction.CANCEL, JobAction.RETRY):
            path = f"/bulk/{action}"
            yield Reading(path, partial(self._preview, action), action)
            yield Acting(path, partial(self._act, action), action)

    def _preview(self, action: JobAction, viewer: Viewer, asked: Asked) -> Answer:
        search, with_cancelled = read_search(asked.given, asked.zone), asked.given.get("cancelled") == "yes"
        if (problem := _problem(action, search)) is not None:
            return problem
        which = viewer.narrowed(search.which).evolve(last_id=_id_in(asked, "up_to"))
        selected = self._selected(action, which, with_cancelled=with_cancelled)
        view = preview(action, search, selected, most=CAP, at_once=AT_ONCE, with_cancelled=with_cancelled)
        return Page("bulk.html", {"title": view.heading, "view": view})

    def _act(self, action: JobAction, viewer: Viewer, asked: Asked) -> Answer:
        chosen_filters = dict(parse_qsl(asked.given.get("filters", ""), keep_blank_values=True))
        search, with_cancelled = read_search(chosen_filters, asked.zone), chosen_filters.get("cancelled") == "yes"
        if (problem := _problem(action, search)) is not None:
            return problem
        if (up_to := _id_in(asked, "up_to")) is None:
            return refusal("Refused", "This is not a form of the dashboard.", 400)
        down_to = _id_in(asked, "down_to")
        which = viewer.narrowed(search.which).evolve(last_id=up_to, first_id=down_to)
        selected = self._selected(action, which, with_cancelled=with_cancelled)
        chosen = selected.jobs[-AT_ONCE:]
        ids = dependents_first(chosen) if action is JobAction.CANCEL else [job.id for job in chosen]
        by, clear = actor_name(line(viewer.name)), asked.given.get("clear_checkpoints") == "yes"
        done = tried = 0
        problems: list[tuple[int, str]] = []
        until = time.monotonic() + SECONDS
        change = partial(self._change, action, by=by, clear=clear)
        for job_id, outcome in in_turn(ids, change, lambda: time.monotonic() > until):
            tried += 1
            if isinstance(outcome, DependencyNotMet | UniquenessConflict):
                problems.append((job_id, line(str(outcome)) if viewer.sees_all else STANDS_IN_THE_WAY))
            elif outcome.done:
                done += 1
            else:
                problems.append((job_id, line(outcome.text)))
        left = len(ids) - tried  # if the time is over
        unseen = selected.down_to or down_to
        next_up_to: int | None = None
        perhaps = False
        if left and done:
            next_up_to = up_to  # the changed jobs are not selected again
        elif len(selected.jobs) > len(chosen):
            next_up_to = chosen[0].id - 1
        elif unseen:
            next_up_to, perhaps = unseen - 1, True
        passed_over = 0 if done else left  # otherwise the same jobs would be tried, and refused, again and again
        given = dict(search.given) | ({"cancelled": "yes"} if with_cancelled else {})
        view = result(action, given, done, problems, next_up_to, passed_over, perhaps=perhaps)
        return Page("bulk_result.html", {"title": view.done.rstrip("."), "view": view})

    def _selected(self, action: JobAction, which: JobFilter, *, with_cancelled: bool) -> SelectedJobs:
        """Read the jobs that the action can change. A preview and its confirmation read the same rows."""
        if action is JobAction.CANCEL:
            return self._queries.chosen(cancellable(which), CAP)
        # Those that somebody cancelled are read with the others, to be counted.
        apart = not with_cancelled and which.cause is None and which.fingerprint is None
        return self._queries.chosen(retryable(which, with_cancelled=True), CAP, without_cancelled=apart)

    def _change(self, action: JobAction, job_id: int, by: str, *, clear: bool) -> Change | UniquenessConflict:
        """Cancel or retry one job."""
        try:
            before = self._ledger.get(job_id)
            if action is JobAction.CANCEL:
                after = self._ledger.cancel(job_id, by)
            else:
                after = self._ledger.retry(job_id, by, clear_checkpoints=clear)
        except UniquenessConflict as error:
            return error
        except DBAPIError as error:
            if is_locked(error):
                return Change(False, "Another transaction has locked its row.")
            if is_timed_out(error):
                return Change(False, "The database did not answer in time.")
            raise
        if before is None or after is None:
            return Change(False, "It was pruned.")
        return cancelled(before, after, among_others=True) if action is JobAction.CANCEL else retried(before, after)


def _problem(action: JobAction, search: JobSearch) -> Page | None:
    """Return why the filters do not tell which jobs are meant."""
    if search.problems or "id" in search.given:
        return refusal("Wrong filters", "Search for the jobs again, on the page Jobs.", 400, "/jobs", "To the jobs")
    if search.which == ANY_JOB:
        text = f"Choose at least one filter on the page Jobs. To {action} jobs of all types, choose the type *."
        return refusal("All jobs?", text, 400, "/jobs", "To the jobs")
    return None


def _id_in(asked: Asked, name: str) -> int | None:
    """Return the newest, or the oldest, job that may be meant; None for any."""
    return whole_number(asked.given.get(name, ""), 0, LARGEST_ID)
