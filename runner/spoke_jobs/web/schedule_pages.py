"""The page *Schedules*, and what changes and runs them. These functions block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

from sqlalchemy import Connection, Engine

from spoke_jobs.errors import ConfigurationError, InvalidSchedule, SpokeJobsError, UnknownName
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.schedules import schedule_rows, tick_statements
from spoke_jobs.ledger.schedules.schedule_rows import ScheduleRow
from spoke_jobs.registry import Registry, load_app
from spoke_jobs.runners.ticker import checked_occurrence
from spoke_jobs.web import schedule_views
from spoke_jobs.web.answers import Acting, Answer, Asked, Page, Reading, Redirect, refusal
from spoke_jobs.web.job_search import decoded
from spoke_jobs.web.viewer import JobAction, Viewer, sees_schedule

PER_PAGE = 100
_HERE = "/schedules"
_BACK = (_HERE, "Back to the schedules")
SAID = {
    "paused": "You paused it. Until somebody resumes it, no due time dispatches a job.",
    "resumed": "You resumed it, from its next due time on.",
    "unique": "A job has the schedule's unique key, so no other one was dispatched.",
}
"""What the page says after an action, by a word in its address. It stays for a while, so it says what was done, and not
what is so: somebody else may change that."""
logger = logging.getLogger(__name__)
Change = Callable[[Connection, ScheduleRow, str], str]
"""Changes a locked schedule, for somebody with this name. Returns where to go."""


class SchedulePages:
    """Reads and changes schedules."""

    def __init__(self, engine: Engine, queries: DashboardQueries, application: str, notify: Callable[[], None]) -> None:
        """Prepare to read.

        :param application: the module that declares the jobs; empty if there is none. It is imported when somebody
            first runs a schedule's job.
        """
        self._engine = engine
        self._queries = queries
        self._application = application
        self._notify = notify

    def routes(self) -> Iterable[Reading | Acting]:
        """Yield the requests that this answers."""
        yield Reading(_HERE, self._schedules)
        yield Acting(f"{_HERE}/pause", partial(self._act, _pause), JobAction.SCHEDULE)
        yield Acting(f"{_HERE}/resume", partial(self._act, _resume), JobAction.SCHEDULE)
        yield Acting(f"{_HERE}/run", self._run, JobAction.SCHEDULE)

    def _schedules(self, viewer: Viewer, asked: Asked) -> Answer:
        after = decoded(asked.given.get("after", "")).replace("\0", "")
        page = self._queries.schedules(after, PER_PAGE, viewer.organizations)
        newest = {row.last_job_id for row in page.rows if row.last_job_id is not None}
        visible = self._queries.selected_of(newest, viewer.narrowed())
        view = schedule_views.schedule_list(page, after, visible, viewer, runs=bool(self._application))
        said = SAID.get(asked.given.get("said", ""), "")
        return Page("schedules.html", {"title": "Schedules", "view": view, "said": said}, live=True)

    def _act(self, change: Change, viewer: Viewer, asked: Asked) -> Answer:
        name = decoded(asked.given.get("schedule", "")).replace("\0", "")
        try:
            with self._engine.begin() as connection:
                rows = schedule_rows.read_schedules(connection, name, lock=True)
                if not rows or not sees_schedule(rows[0], viewer):
                    text = "There is no such schedule, or you may not see it."
                    return refusal("Not found", text, 404, *_BACK)
                path = change(connection, rows[0], actor_name(line(viewer.name)))
        except SpokeJobsError as error:
            return _refused(error, viewer)
        self._notify()
        return Redirect(path)

    def _run(self, viewer: Viewer, asked: Asked) -> Answer:
        try:
            registry = self._registry()
        except SpokeJobsError as error:
            return _refused(error, viewer)

        shown = asked.given.get("last")

        def run(connection: Connection, row: ScheduleRow, by: str) -> str:
            # A form that is sent twice shows the job before the one that it has dispatched.
            if shown not in (None, schedule_views.last_of(row)) and tick_statements.has_run_newest(connection, row, by):
                return f"/jobs/{row.last_job_id}?said=repeated"
            job, new = tick_statements.run_now(
                connection, row, lambda schedule, due: checked_occurrence(schedule, due, registry, row.runner), by
            )
            return f"/jobs/{job.id}?said=dispatched" if new else f"{_HERE}?said=unique"

        return self._act(run, viewer, asked)

    def _registry(self) -> Registry:
        """Import the application, if that has not been done."""
        try:
            return load_app(self._application)
        except SpokeJobsError:
            raise
        except (Exception, SystemExit) as error:  # raised by the application's own code
            logger.exception("the application %s can't be imported", self._application)
            raise ConfigurationError(
                f"SPOKE_APP={self._application} can't be imported: {type(error).__name__}. The dashboard's log has the "
                "error."
            ) from error


def _pause(connection: Connection, row: ScheduleRow, by: str) -> str:
    schedule_rows.pause(connection, row.name, by)
    return f"{_HERE}?said=paused"


def _resume(connection: Connection, row: ScheduleRow, by: str) -> str:
    schedule_rows.resume(connection, row.name, by)
    return f"{_HERE}?said=resumed"


def _refused(error: SpokeJobsError, viewer: Viewer) -> Page:
    """Say why nothing was changed. The text of an invalid payload may hold its values."""
    tells = viewer.may_see_payloads or isinstance(error, ConfigurationError | InvalidSchedule | UnknownName)
    text = line(str(error)) if tells else f"Its job can't be made ({type(error).__name__})."
    return refusal("Nothing was changed", text, 409, *_BACK)
