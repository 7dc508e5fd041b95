"""The page *Failures*: failed jobs, by cause and fingerprint, and what mutes them. These functions block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Engine

from spoke_jobs.contract.causes import Cause
from spoke_jobs.errors import InvalidMute
from spoke_jobs.explain.groups import groups
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.notices import mute_rows
from spoke_jobs.ledger.notices.notice_values import NewMute
from spoke_jobs.ledger.reading.chart_periods import PERIODS
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.web import failure_views
from spoke_jobs.web.answers import LATER, Acting, Answer, Asked, Page, Reading, Redirect, refusal
from spoke_jobs.web.failure_views import MUTES_SHOWN, PERIOD, SHOWN, TIMES
from spoke_jobs.web.job_search import address, decoded
from spoke_jobs.web.viewer import JobAction, Viewer, shown_group, shown_job

_HERE = "/failures"
_LONGEST_NAME = 1_000
SAID = {
    "muted": "You muted these failures. Nobody gets notices about them until the mute ends.",
    "unmuted": "You ended the mute. Failures from now on are reported again.",
    "not-muted": "There was no such mute, or it had ended.",
}
"""What the page says after an action, by a word in its address. It stays for a while, so it says what was done, and not
what is so: somebody else may change that."""


class FailurePages:
    """Reads failures, and mutes them."""

    def __init__(self, engine: Engine, queries: DashboardQueries) -> None:
        self._engine = engine
        self._queries = queries

    def routes(self) -> Iterable[Reading | Acting]:
        """Yield the requests that this answers."""
        yield Reading(_HERE, self._failures, too_slow=LATER)
        yield Acting("/mutes/add", self._mute, JobAction.MUTE, of_all=True)
        yield Acting("/mutes/{mute_id}/end", self._unmute, JobAction.MUTE, of_all=True)

    def _failures(self, viewer: Viewer, asked: Asked) -> Answer:
        period = _period(asked)
        crowd = self._queries.failures(PERIODS[period].seconds, viewer.narrowed(), SHOWN)
        crowd = replace(crowd, now=crowd.now.astimezone(asked.zone))
        found = [shown_group(group, viewer) for group in groups(crowd, most=SHOWN)]
        newest = {group.job_id for group in found if group.job_id is not None}
        tails = self._queries.output_tails(newest) if viewer.may_see_output else {}
        jobs = {job.id: shown_job(job, viewer) for job in self._queries.jobs(sorted(newest))[1]}
        killed = {group.job_id for group in found if group.job_id and group.reason == Cause.OUT_OF_MEMORY}
        peaks = self._queries.peaks(killed)
        # A mute holds for all organizations, and its texts may name their jobs.
        mutes = self._queries.mutes(MUTES_SHOWN + 1) if viewer.sees_all else ()
        types = self._queries.failed_types(
            PERIODS[period].seconds, viewer.narrowed(), failure_views.kinds_with_a_muted_type(found, mutes)
        )
        several = {(group.reason, group.fingerprint) for group in found if group.count > 1}
        by_time = self._queries.failed_by_time(PERIODS[period], viewer.narrowed(), several)
        view = failure_views.failure_list(found, jobs, tails, peaks, mutes, types, by_time, crowd, period, viewer)
        said = SAID.get(asked.given.get("said", ""), "")
        return Page("failures.html", {"title": "Failures", "view": view, "said": said}, live=True)

    def _mute(self, viewer: Viewer, asked: Asked) -> Answer:
        try:
            new = NewMute(
                **{name: _name(asked.given[name]) for name in failure_views.MUTED if name in asked.given},
                until=self._queries.now() + _duration(asked),
                reason=line(asked.given.get("reason", "")),
            )
            by = actor_name(line(viewer.name))
            with self._engine.begin() as connection:
                if not any(mute.repeats(new, by) for mute in mute_rows.current_mutes(connection, MUTES_SHOWN)):
                    mute_rows.add_mute(connection, new, by)
        except InvalidMute as error:
            return refusal("Nothing was changed", line(str(error)), 400, _path(asked), "Back to the failures")
        return Redirect(_path(asked, "muted"))

    def _unmute(self, viewer: Viewer, asked: Asked) -> Answer:
        mute_id, ended = asked.id("mute_id"), None
        if mute_id is not None:
            with self._engine.begin() as connection:
                ended = mute_rows.end_mute(connection, mute_id, actor_name(line(viewer.name)))
        return Redirect(_path(asked, "not-muted" if ended is None else "unmuted"))


def _name(given: str) -> str:
    """Read a name that a form of this page has. The command line takes patterns, too."""
    name = decoded(given)
    if "*" in name or "\ufffd" in name or len(name) > _LONGEST_NAME:
        raise InvalidMute("this is not a form of the dashboard")
    return name


def _duration(asked: Asked) -> timedelta:
    hours = asked.given.get("hours", "")
    if hours not in dict(TIMES):
        raise InvalidMute("choose how long")
    return timedelta(hours=int(hours))


def _period(asked: Asked) -> str:
    within = asked.given.get("within", PERIOD)
    return within if within in PERIODS else PERIOD


def _path(asked: Asked, said: str = "") -> str:
    """Return the address of the page that had the form."""
    return address(_HERE, within=_period(asked), said=said)
