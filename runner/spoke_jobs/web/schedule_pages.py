"""The page *Schedules*, and what changes and runs them. These functions block."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from spoke_jobs.errors import ConfigurationError, InvalidSchedule, SpokeJobsError, UnknownName
from spoke_jobs.explain.words import count, line
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.engine import READ_ONLY, is_locked, is_timed_out
from spoke_jobs.ledger.limits_and_pauses.limit_rows import read_limits
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.schedules import schedule_rows, tick_statements
from spoke_jobs.ledger.schedules.backfills import Period, PeriodProblem, dispatch_parts, read_period
from spoke_jobs.ledger.schedules.schedule_rows import ScheduleRow
from spoke_jobs.ledger.schedules.tick_statements import Prepare
from spoke_jobs.limits.job_limit import LimitPause
from spoke_jobs.registry import Registry, load_app
from spoke_jobs.runners.ticker import checked_occurrence
from spoke_jobs.web import schedule_views
from spoke_jobs.web.answers import Acting, Answer, Asked, Page, Reading, Redirect, refusal
from spoke_jobs.web.job_search import address, decoded, encoded
from spoke_jobs.web.view_parts import NO_TROUBLES
from spoke_jobs.web.viewer import JobAction, Viewer, sees_schedule

PER_PAGE = 50
SECONDS = 10.0
"""How long one confirmation of a backfill goes on. The occurrences that are left are offered again."""
_HERE = "/schedules"
_UNCHANGED = "Nothing was changed"
_NO_BACKFILL = "This can't be backfilled"
_BACKFILL = f"{_HERE}/backfill"
_BACK = (_HERE, "Back to the schedules")
_NO_SUCH = refusal("Not found", "There is no such schedule, or you may not see it.", 404, *_BACK)
_WRONG = "Wrong period"
SAID = {
    "paused": "You paused it. Until somebody resumes it, no due time dispatches a job.",
    "resumed": "You resumed it, from its next due time on.",
    "unique": "A job has the schedule's unique key, so no other one was dispatched.",
}
"""What the page says after an action, by a word in its address. It stays for a while, so it says what was done, and not
what is so: somebody else may change that."""
BACKFILL_SAID = {
    "backfilled": "You dispatched the jobs of the occurrences that you saw.",
    "repeated": "Each of the occurrences that you saw had a job already, so no other one was dispatched.",
    "unique": "Some of the occurrences that you saw got no job: they had one, or another job has the unique key.",
    "stopped": "You dispatched jobs until the time was over. The page now says what is left.",
}
"""The same of the preview of a backfill, to which a confirmation leads: it says what is left."""
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
        yield Reading(_BACKFILL, self._preview, JobAction.SCHEDULE)
        yield Acting(f"{_BACKFILL}/dispatch", self._backfill, JobAction.SCHEDULE)

    def _schedules(self, viewer: Viewer, asked: Asked) -> Answer:
        after, name = (asked.given.get(word, "").replace("\0", "") for word in ("after", "name"))
        if name:
            page = self._queries.schedule(name, viewer.organizations)
        else:
            page = self._queries.schedules(after, PER_PAGE, viewer.organizations)
        troubles = NO_TROUBLES
        if not after and not name:
            troubles = schedule_views.schedule_troubles(self._queries.perhaps_troubled(viewer.organizations), viewer)
        newest = {row.last_job_id for row in page.rows if row.last_job_id is not None}
        visible = self._queries.selected_of(newest, viewer.narrowed())
        states = {job.id: job.state.value for job in self._queries.jobs(sorted(visible))[1]} if visible else {}
        page = replace(page, now=page.now.astimezone(asked.zone))
        view = schedule_views.schedule_list(
            page,
            after,
            states,
            viewer,
            runs=bool(self._application),
            alone=bool(name),
            troubles=troubles,
            pauses=self._pauses(page.now) if viewer.sees_all else schedule_views.NO_PAUSES,
        )
        said = SAID.get(asked.given.get("said", ""), "")
        return Page("schedules.html", {"title": "Schedules", "view": view, "said": said}, live=True)

    def _pauses(self, now: datetime) -> dict[str, LimitPause]:
        """Read what is paused, by scope."""
        with self._engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            limits = read_limits(connection)
        return {str(limit.scope): pause for limit in limits if (pause := limit.paused_at(now)) is not None}

    def _act(self, change: Change, viewer: Viewer, asked: Asked) -> Answer:
        try:
            with self._engine.begin() as connection:
                row = _visible(connection, viewer, asked, lock=True)
                if row is None:
                    return _NO_SUCH
                path = change(connection, row, actor_name(line(viewer.name)))
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

    def _preview(self, viewer: Viewer, asked: Asked) -> Answer:
        """Show what a backfill would dispatch."""
        found = self._asked_backfill(viewer, asked, _NO_BACKFILL)
        if isinstance(found, Page):
            return found
        row, since, until, period, registry = found
        now = self._queries.now().astimezone(asked.zone)
        if period.left:  # what can't be made is told before somebody confirms it
            try:
                checked_occurrence(row.schedule(), period.left[0], registry, row.runner)
            except SpokeJobsError as error:
                more = schedule_views.orphan_text(row, viewer) if row.orphaned(now) else ""
                return _refused(error, viewer, more, _NO_BACKFILL)
        view = schedule_views.backfill_preview(row, since, until, period, now, viewer)
        said = BACKFILL_SAID.get(asked.given.get("said", ""), "")
        return Page("backfill.html", {"title": f"Backfill {line(row.name, 80)}", "view": view, "said": said})

    def _backfill(self, viewer: Viewer, asked: Asked) -> Answer:
        """Dispatch the jobs of the occurrences that a preview has shown."""
        found = self._asked_backfill(viewer, asked)
        if isinstance(found, Page):
            return found
        row, since, until, period, registry = found
        shown = {"schedule": encoded(row.name), "from": since.isoformat(), "to": until.isoformat()}
        chosen = schedule_views.chosen(asked.given.get("chosen", ""), period.times)
        if chosen is None or asked.given.get("times") != schedule_views.fingerprint(period.times):
            text = "The schedule was changed since, and so were its occurrences. Preview the period again."
            return refusal(_UNCHANGED, text, 409, address(_BACKFILL, **shown), "Preview again")
        prepare = partial(checked_occurrence, registry=registry, runner=row.runner)
        return self._dispatch(viewer, asked, row, chosen, prepare, shown)

    def _dispatch(
        self,
        viewer: Viewer,
        asked: Asked,
        row: ScheduleRow,
        chosen: Sequence[datetime],
        prepare: Prepare,
        shown: Mapping[str, str],
    ) -> Answer:
        """Dispatch the jobs of these due times, for some seconds.

        :param shown: the query of the preview.
        """
        locked = partial(_locked, viewer=viewer, asked=asked, digest=row.digest)
        jobs, over, stopped = 0, time.monotonic() + SECONDS, False
        try:
            for new in dispatch_parts(self._engine, locked, chosen, prepare, actor_name(line(viewer.name))):
                jobs += new
                if stopped := time.monotonic() > over:
                    break
        except SpokeJobsError as error:
            if not jobs:
                return _refused(error, viewer)
            self._notify()
            text = f"{count(jobs, 'job was', 'jobs were')} dispatched, and no more: {_told(error, viewer)}"
            return refusal("Not all were dispatched", text, 409, address(_BACKFILL, **shown), "Preview what is left")
        except DBAPIError as error:
            if not jobs or not (is_locked(error) or is_timed_out(error)):
                raise
            stopped = True
        if jobs:
            self._notify()
        word = "backfilled" if jobs else "repeated"
        if stopped:
            word = "stopped"
        elif jobs < len(chosen) and row.schedule().options.get("unique_key"):
            word = "unique"
        return Redirect(address(_BACKFILL, **shown, said=word))

    def _asked_backfill(
        self, viewer: Viewer, asked: Asked, title: str = _UNCHANGED
    ) -> tuple[ScheduleRow, datetime, datetime, Period, Registry] | Page:
        """Read what a backfill is for, and import what makes its jobs; or say why that can't be done.

        :param title: of the page that says so.
        """
        try:
            found = self._asked_period(viewer, asked)
            return found if isinstance(found, Page) else (*found, self._registry())
        except SpokeJobsError as error:
            return _refused(error, viewer, title=title)

    def _asked_period(self, viewer: Viewer, asked: Asked) -> tuple[ScheduleRow, datetime, datetime, Period] | Page:
        """Read a schedule and the due times of a period; or say why not.

        :raises InvalidSchedule: if the schedule's definition can't be read.
        """
        with self._engine.connect() as connection:
            row = _visible(connection, viewer, asked)
            if row is None:
                return _NO_SUCH
            zone = row.schedule().timing.zone
            try:
                since, until = (
                    schedule_views.read_time(asked.given.get(label.lower(), "").strip(), label, zone)
                    for label in ("From", "To")
                )
            except ValueError as error:
                return refusal(_WRONG, str(error), 400, *_BACK)
            period = read_period(connection, row, since, until)
        if isinstance(period, PeriodProblem):
            return refusal(_WRONG, schedule_views.period_problem(period, since, until, zone), 400, *_BACK)
        return row, since, until, period

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


def _visible(connection: Connection, viewer: Viewer, asked: Asked, *, lock: bool = False) -> ScheduleRow | None:
    """Read the schedule of a request; None if there is none that the viewer may see."""
    name = decoded(asked.given.get("schedule", "")).replace("\0", "")
    rows = schedule_rows.read_schedules(connection, name, lock=lock)
    return rows[0] if rows and sees_schedule(rows[0], viewer) else None


def _locked(connection: Connection, viewer: Viewer, asked: Asked, digest: str) -> ScheduleRow:
    """Lock the schedule of a request, and read it.

    :raises InvalidSchedule: if it is not any more what it was.
    """
    row = _visible(connection, viewer, asked, lock=True)
    if row is None:
        raise InvalidSchedule("The schedule was removed, or you may not see it any more.")
    if row.digest != digest:
        raise InvalidSchedule("The schedule was changed just now.")
    return row


def _refused(error: SpokeJobsError, viewer: Viewer, more: str = "", title: str = _UNCHANGED) -> Page:
    """Say why nothing was changed, or can be."""
    text = _told(error, viewer)
    return refusal(title, f"{text.rstrip('.')}. {more}" if more else text, 409, *_BACK)


def _told(error: SpokeJobsError, viewer: Viewer) -> str:
    """Return what is wrong. The text of an invalid payload may hold its values."""
    tells = viewer.may_see_payloads or isinstance(error, ConfigurationError | InvalidSchedule | UnknownName)
    return line(str(error)) if tells else f"Its job can't be made ({type(error).__name__})."
