"""The page *Failures*: failed jobs, by cause and fingerprint, and what mutes them. These functions block."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Engine

from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.errors import InvalidMute
from spoke_jobs.explain.groups import Group, groups
from spoke_jobs.explain.reasons import MESSAGE_LIMIT
from spoke_jobs.explain.words import clock, line, lines, memory
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.notices import mute_rows
from spoke_jobs.ledger.notices.notice_values import REASON_LIMIT, GroupName, Mute, NewMute, muted_failures
from spoke_jobs.ledger.reading.chart_periods import PERIODS
from spoke_jobs.ledger.reading.crowd_facts import Crowd
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.model import JobRequest, JobState
from spoke_jobs.web.answers import LATER, Acting, Answer, Asked, Page, Reading, Redirect, refusal
from spoke_jobs.web.job_search import address, decoded, encoded
from spoke_jobs.web.sparklines import Sparkline, group_sparkline
from spoke_jobs.web.view_parts import When, failures_note, form_path, only_type
from spoke_jobs.web.viewer import JobAction, Viewer, shown_group, shown_job

PERIOD = "1d"
"""How long ago jobs may have failed if nothing else is given, by the word in the address."""
SHOWN = 50
"""The most groups that are shown, the largest ones."""
MUTES_SHOWN = 200
"""The most mutes that are shown, the newest ones."""
TIMES = (("1", "1 hour"), ("24", "1 day"), ("168", "1 week"))
"""How long a mute lasts: hours, and the text."""
MUTED = ("job_type", "cause", "fingerprint")
"""The fields of a mute that say what it is about."""
_SAMPLE_LINES = 20
_ENDED_BY_OTHERS = frozenset({Cause.CANCELLED, Cause.DEPENDENCY_FAILED})
"""Causes against which a pause of the type does nothing."""


@dataclass(frozen=True, slots=True)
class MuteItem:
    """A mute that has not ended."""

    mute_id: int
    about: str
    whole: bool
    """Whether it mutes the whole group of failures beside which it is shown."""
    until: When
    by: str
    """Empty if unknown."""
    reason: str


@dataclass(frozen=True, slots=True)
class MuteForm:
    """What mutes a group of failures."""

    about: str
    fields: tuple[tuple[str, str], ...]
    """Names and values that say what is muted, encoded."""


@dataclass(frozen=True, slots=True)
class FailureItem:
    """Jobs that failed for one reason."""

    number: str
    text: str
    meaning: str
    """What the cause means; empty if this release does not know it."""
    first: When | None
    last: When | None
    job_id: int | None
    """The newest of the jobs."""
    message: str
    """Why that job failed, in its own words."""
    sample: tuple[str, ...]
    """The last lines of that job's traceback or output."""
    peaks: tuple[str, ...]
    """The peak memory of that job's newest attempts, newest first; empty if it is of no interest, or not known."""
    advice: str
    jobs: str
    """The address of the list of the jobs."""
    retry: str
    """The address of the preview of a retry, also of earlier failures; empty if the viewer may not."""
    retry_text: str
    pause: str
    """The address of the form that pauses their type; empty if they have several, or the viewer may not."""
    mutes: tuple[MuteItem, ...]
    """What mutes the jobs, or some of them."""
    form: MuteForm | None
    """None if the viewer may not mute them, or if they are muted."""
    chart: Sparkline | None = None
    """When they failed; None of a single one."""


@dataclass(frozen=True, slots=True)
class FailureList:
    """The page *Failures*."""

    items: tuple[FailureItem, ...]
    period: str
    periods: tuple[tuple[str, str, bool], ...]
    """Links to other periods: addresses, texts, and whether it is the shown one."""
    notes: tuple[str, ...]
    other_mutes: tuple[MuteItem, ...]
    """The mutes of none of the shown groups."""
    can_mute: bool
    within: str
    """The period by its word in the address, for forms."""
    times: tuple[tuple[str, str], ...] = TIMES
    reason_limit: int = REASON_LIMIT


def may_mute(viewer: Viewer) -> bool:
    """Whether they may mute failures. A mute concerns the jobs of all organizations."""
    return viewer.sees_all and JobAction.MUTE in viewer.actions


def kinds_with_a_muted_type(groups: Iterable[Group], mutes: Collection[Mute]) -> set[tuple[str, str]]:
    """Return the cause and the fingerprint of each group of several types, one of which may be muted by its name."""
    return {
        (group.reason, group.fingerprint)
        for mute in mutes
        if mute.job_type is not None
        for group in groups
        if not group.job_type and mute.cause in (None, group.reason) and mute.fingerprint in (None, group.fingerprint)
    }


def failure_list(
    groups: Sequence[Group],
    jobs: Mapping[int, JobRequest],
    tails: Mapping[int, str],
    peaks: Mapping[int, Sequence[int]],
    mutes: Sequence[Mute],
    types: Mapping[tuple[str, str], Collection[str]],
    by_time: Mapping[tuple[str, str], Sequence[int]],
    crowd: Crowd,
    period: str,
    viewer: Viewer,
) -> FailureList:
    """Describe groups of failed jobs.

    :param groups: the largest ones, at most :data:`SHOWN`.
    :param jobs: the newest jobs of the groups, by their ids.
    :param tails: the last lines of output of some jobs, by their ids.
    :param peaks: the peak memory in bytes of the newest attempts of some jobs, newest first, by their ids.
    :param mutes: those that have not ended, by id. None for a viewer who does not see all jobs.
    :param types: the types of the groups that :func:`kinds_with_a_muted_type` returns.
    :param by_time: how many of each group failed in each bar of the period, by cause and fingerprint.
    :param crowd: what the groups are made of.
    :param period: a key of :data:`PERIODS`.
    """
    now = crowd.now
    notes = failures_note(crowd)
    if notes and crowd.failed:
        begin = min(each.oldest_at for each in crowd.failed)
        notes.append(f"The charts show only these: failures from before {clock(begin, now)} are missing.")
    if len(crowd.failed) > len(groups):
        notes.append(f"These are the {len(groups)} largest of {len(crowd.failed):,} groups.")
    if len(mutes) > MUTES_SHOWN:
        mutes = mutes[-MUTES_SHOWN:]
        notes.append(f"Only the newest {MUTES_SHOWN} mutes are shown. `spoke-jobs mutes ls` lists all.")
    items = tuple(
        replace(
            _item(group, jobs, tails, peaks, mutes, types, now, viewer), chart=_chart(number, group, by_time, period)
        )
        for number, group in enumerate(groups, start=1)
    )
    beside_groups = {mute.mute_id for item in items for mute in item.mutes}
    return FailureList(
        items,
        PERIODS[period].text,
        tuple(
            (address("/failures", within=name), f"last {each.text}", name == period) for name, each in PERIODS.items()
        ),
        tuple(notes),
        tuple(_mute_item(mute, now, whole=True) for mute in mutes if mute.id not in beside_groups),
        may_mute(viewer),
        period,
    )


def _item(
    group: Group,
    jobs: Mapping[int, JobRequest],
    tails: Mapping[int, str],
    peaks: Mapping[int, Sequence[int]],
    mutes: Sequence[Mute],
    types: Mapping[tuple[str, str], Collection[str]],
    now: datetime,
    viewer: Viewer,
) -> FailureItem:
    which_types = types.get((group.reason, group.fingerprint), (group.job_type,))
    names = [GroupName(job_type, group.reason, group.fingerprint) for job_type in which_types]
    covered = {mute.id: {name for name in names if mute.covers(name, now)} for mute in mutes}
    muted = set(names) <= set().union(*covered.values())
    cause = CAUSES.get(group.reason)
    of_type = only_type(group)
    which = {"type": of_type, "cause": group.reason, "fingerprint": group.fingerprint}
    tail = tails.get(group.job_id or 0, "") if viewer.may_see_output else ""
    job = jobs.get(group.job_id or 0)
    pauses = of_type and viewer.changes_limits and group.reason not in _ENDED_BY_OTHERS
    retries = JobAction.RETRY in viewer.actions and group.reason != Cause.CANCELLED
    return FailureItem(
        f"{group.count:,}",
        line(group.text),
        cause.meaning if cause is not None else "",
        When.of(group.oldest_at, now) if group.oldest_at else None,
        When.of(group.newest_at, now) if group.newest_at else None,
        group.job_id,
        # It may have been retried since.
        line(job.result_message, MESSAGE_LIMIT) if job is not None and job.state is JobState.FAILED else "",
        tuple(lines(tail)[-_SAMPLE_LINES:]),
        tuple(memory(peak) for peak in peaks.get(group.job_id or 0, ())),
        line(group.advice),
        address("/jobs", state="failed", **which),
        address("/bulk/retry", **which) if retries else "",
        f"Retry all with this {_in_words(which)} (preview)",
        form_path(f"type:{of_type}", "pause") if pauses else "",
        tuple(_mute_item(mute, now, whole=covered[mute.id] == set(names)) for mute in mutes if covered[mute.id]),
        _mute_form(group) if may_mute(viewer) and not muted else None,
    )


def _chart(
    number: int, group: Group, by_time: Mapping[tuple[str, str], Sequence[int]], period: str
) -> Sparkline | None:
    numbers = by_time.get((group.reason, group.fingerprint), ())
    return group_sparkline(f"group-{number}", numbers, PERIODS[period]) if sum(numbers) > 1 else None


def _in_words(which: Mapping[str, str]) -> str:
    """Name the filters that a retry has: ``type and cause``. A fingerprint says more than a cause."""
    names = [name for name in ("type", "fingerprint" if which["fingerprint"] else "cause") if which[name]]
    return " and ".join(names) or "cause"


def _mute_form(group: Group) -> MuteForm | None:
    """Return what mutes the group. If its jobs have several types, the mute is about all types."""
    if group.reason in ("", Cause.CANCELLED):  # there are no notices about cancelled jobs
        return None
    values = (group.job_type, group.reason, group.fingerprint)
    if any("*" in value for value in values):  # it would be read as a pattern
        return None
    fields = tuple((name, encoded(value)) for name, value in zip(MUTED, values, strict=True) if value)
    return MuteForm(line(muted_failures(*(value or None for value in values))), fields)


def _mute_item(mute: Mute, now: datetime, *, whole: bool) -> MuteItem:
    return MuteItem(
        mute.id, line(mute.about()), whole, When.planned(mute.until, now), line(mute.muted_by), line(mute.reason)
    )


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
            PERIODS[period].seconds, viewer.narrowed(), kinds_with_a_muted_type(found, mutes)
        )
        several = {(group.reason, group.fingerprint) for group in found if group.count > 1}
        by_time = self._queries.failed_by_time(PERIODS[period], viewer.narrowed(), several)
        view = failure_list(found, jobs, tails, peaks, mutes, types, by_time, crowd, period, viewer)
        said = SAID.get(asked.given.get("said", ""), "")
        return Page("failures.html", {"title": "Failures", "view": view, "said": said}, live=True)

    def _mute(self, viewer: Viewer, asked: Asked) -> Answer:
        try:
            new = NewMute(
                **{name: _name(asked.given[name]) for name in MUTED if name in asked.given},
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
