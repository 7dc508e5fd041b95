"""Cancel or retry all jobs that filters select: first a preview, then what was confirmed. These functions block."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from urllib.parse import parse_qsl

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.errors import DependencyNotMet, UniquenessConflict
from spoke_jobs.explain.changes import Change, cancelled, retried
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.engine import is_locked, is_timed_out
from spoke_jobs.ledger.many_jobs import cancellable, dependents_first, in_turn, retryable
from spoke_jobs.ledger.reading.dashboard_queries import CAP, DashboardQueries, SelectedJobs
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import ANY_JOB, JobFilter
from spoke_jobs.web import bulk_views
from spoke_jobs.web.answers import Acting, Answer, Asked, Page, Reading, refusal
from spoke_jobs.web.job_search import JobSearch, read_search
from spoke_jobs.web.query_values import whole_number
from spoke_jobs.web.viewer import STANDS_IN_THE_WAY, JobAction, Viewer

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
        view = bulk_views.preview(action, search, selected, most=CAP, at_once=AT_ONCE, with_cancelled=with_cancelled)
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
        view = bulk_views.result(action, given, done, problems, next_up_to, passed_over, perhaps=perhaps)
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
