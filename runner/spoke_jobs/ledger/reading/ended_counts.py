"""The jobs that ended in the last hour, day or week, for the charts of the dashboard, in a bounded number of rows.

Jobs that have succeeded have no index by their end, because each index costs every write.

- For all organizations, attempts are read, of which the last one of a job that has ended tells when. Attempts get their
  ids in the order of their claims. So those of the period are a range of ids. If these are too many, short slices of
  the range are read, evenly spread, and their numbers are scaled up.
- The failed jobs have an index by their end: the newest ones are counted, whether they had an attempt or not.
- For some organizations, the newest jobs of each that ended are read from an index. Nothing depends on how many jobs
  others have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    case,
    desc,
    func,
    literal,
    select,
    true,
    tuple_,
    union_all,
)

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.ledger.columns.clock import LONGEST_WAIT_SECONDS, clock_now
from spoke_jobs.ledger.reading.chart_periods import Period, bars_ago, by_bar, is_within, place_of
from spoke_jobs.ledger.reading.id_bounds import first_since
from spoke_jobs.ledger.reading.statistics import Durations
from spoke_jobs.ledger.sql.expressions import (
    clock_once,
    constant,
    due_of_first,
    due_since,
    number_in_text,
    seconds_between,
)
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.model import JobState

EXAMINED = 5_000
"""The most attempts, or jobs of some organizations, that are read."""
SLICES = 1_000
"""In how many slices, if there are more attempts in the period. Each is one look into the index."""
FAILED_COUNTED = 5_000
"""Among how many of the jobs that failed last, of all organizations, failures are counted."""
MOST_ORGANIZATIONS = 16
"""Of how many organizations jobs are read. Each takes some milliseconds, most of them for the plan."""
EARLIER = 0.25
"""From how long before the period on attempts are read, as a part of it: those that took longer may be missing."""
_SUCCEEDED, _FAILED, _CANCELLED = range(3)
_FINAL = tuple(constant(state) for state in JobState if state.final)


@dataclass(frozen=True, slots=True)
class Measured:
    """Durations of the jobs that were read; None if none was measured."""

    each: tuple[Durations | None, ...]
    """By bar."""
    whole: Durations | None
    """Of the period."""


@dataclass(frozen=True, slots=True)
class EndedJobs:
    """The jobs that ended in each bar of a period, the oldest bar first."""

    period: Period
    succeeded: tuple[int, ...]
    failed: tuple[int, ...]
    """Those that failed for good, without the cancelled ones."""
    cancelled: tuple[int, ...]
    wait: Measured
    """From the time when a job was due to its first start in its newest run."""
    run: Measured
    """From that start to the end."""
    estimated: bool = False
    """Whether the successes were estimated from a part of the attempts."""
    long_left_out: bool = False
    """Whether attempts that began before a part of the period before it were not read (:data:`EARLIER`)."""
    failures_estimated: bool = False
    """Whether the earlier ones of the failed and the cancelled jobs were estimated from attempts."""
    jobs_each: int | None = None
    """How many jobs of each organization were read that succeeded, and how many that failed, if there may be more."""
    left_out: int = 0
    """Of how many of the organizations no job was read."""


class _Ended(NamedTuple):
    """A job that ended."""

    ago: int | None
    """How many bars before the last one; None: not in the period."""
    kind: int
    wait: float | None
    run: float | None


class _Sample(NamedTuple):
    """Ids of attempts: ``size`` of each ``step``."""

    first: int
    last: int
    step: int
    size: int
    earlier: bool
    """Whether there are attempts before the first one."""


def ended_jobs(connection: Connection, organizations: Collection[int] | None, period: Period) -> EndedJobs:
    """Count and measure the jobs that ended in the period.

    :param organizations: only jobs of these organizations; None: all jobs.
    """
    if organizations is not None:
        return _of_organizations(connection, organizations, period)
    sample = _sample(connection, period)
    found = _read(connection, _sampled(connection, sample, period)) if sample is not None else []
    weight = sample.step / sample.size if sample is not None else 1.0
    failures = connection.execute(_counted(_failures(period))).all()
    cut = sum(number for *_, number in failures) >= FAILED_COUNTED

    def not_succeeded(kind: int) -> tuple[int, ...]:
        exact = by_bar(((ago, number) for ago, of_kind, number in failures if of_kind == kind), period)
        if not cut:
            return exact
        # In the bar of the oldest of those that were counted, and before it, there may be more.
        begin = place_of(max((ago for ago, *_ in failures if ago is not None), default=0), period)
        estimate = _scaled(found, kind, period, weight)
        return (*map(max, exact[: begin + 1], estimate), *exact[begin + 1 :])

    return EndedJobs(
        period,
        _scaled(found, _SUCCEEDED, period, weight),
        not_succeeded(_FAILED),
        not_succeeded(_CANCELLED),
        _measured(((each.ago, each.wait) for each in found), period),
        _measured(((each.ago, each.run) for each in found), period),
        estimated=weight > 1,
        long_left_out=sample is not None and sample.earlier,
        failures_estimated=cut,
    )


def _of_organizations(connection: Connection, organizations: Collection[int], period: Period) -> EndedJobs:
    read = sorted(organizations)[:MOST_ORGANIZATIONS]
    most = max(EXAMINED // max(2 * len(read), 1), 1)
    found: list[_Ended] = []
    in_period: defaultdict[tuple[int, bool], list[bool]] = defaultdict(list)
    for organization, *values in connection.execute(_newest_of(read, most, period)) if read else ():
        found.append(_Ended(*values))
        in_period[organization, found[-1].kind == _SUCCEEDED].append(found[-1].ago is not None)
    # Those before may have ended in the period as well, whenever they were dispatched.
    more = any(len(those) >= most and any(those) for those in in_period.values())
    return EndedJobs(
        period,
        _scaled(found, _SUCCEEDED, period),
        _scaled(found, _FAILED, period),
        _scaled(found, _CANCELLED, period),
        _measured(((each.ago, each.wait) for each in found), period),
        _measured(((each.ago, each.run) for each in found), period),
        jobs_each=most if more else None,
        left_out=len(organizations) - len(read),
    )


def _read(connection: Connection, statement: Select[Any]) -> list[_Ended]:
    return [_Ended(*row) for row in connection.execute(statement)]


def _scaled(found: Iterable[_Ended], kind: int, period: Period, weight: float = 1.0) -> tuple[int, ...]:
    numbers = Counter(each.ago for each in found if each.kind == kind)
    return tuple(round(number * weight) for number in by_bar(numbers.items(), period))


def _measured(found: Iterable[tuple[int | None, float | None]], period: Period) -> Measured:
    values: list[list[float]] = [[] for _ in range(period.bars)]
    for ago, seconds in found:
        if ago is not None and seconds is not None:
            values[place_of(ago, period)].append(max(seconds, 0.0))
    return Measured(tuple(map(Durations.of, values)), Durations.of([one for each in values for one in each]))


def _measures(
    columns: Any, due_of_first: ColumnElement[datetime | None], period: Period
) -> tuple[ColumnElement[Any], ...]:
    """Return what :class:`_Ended` has of a job that has ended.

    :param due_of_first: since when the first attempt of its newest run had been due, if that is known.
    """
    due = func.coalesce(due_of_first, due_since(columns))
    kind = case(
        (columns.state == constant(JobState.SUCCEEDED), _SUCCEEDED),
        (columns.cause == constant(Cause.CANCELLED), _CANCELLED),
        else_=_FAILED,
    )
    return (
        bars_ago(columns.finished_at, period).label("ago"),
        kind.label("kind"),
        _seconds(due, columns.started_at).label("wait"),
        _seconds(columns.started_at, columns.finished_at).label("run"),
    )


def _seconds(since: ColumnElement[Any], until: ColumnElement[Any]) -> ColumnElement[float | None]:
    """Return the time between two times, if both were in the last year. Other code may have written infinite ones."""
    known = and_(
        *(time >= clock_once(-LONGEST_WAIT_SECONDS) for time in (since, until)),
        *(time <= clock_once() for time in (since, until)),
    )
    return case((known, seconds_between(since, until)), else_=None)


def _sample(connection: Connection, period: Period) -> _Sample | None:
    """Return which attempts are read: the newest ones, or a part of those that were claimed since the period began."""
    ids, claimed_at = job_attempt.c.id, job_attempt.c.claimed_at
    lowest, highest, now = connection.execute(select(func.min(ids), func.max(ids), clock_now())).one()
    if lowest is None:
        return None
    first = max(highest - EXAMINED + 1, lowest)
    since = now - timedelta(seconds=period.seconds * (1 + EARLIER))
    oldest = connection.scalar(select(claimed_at).where(ids >= first).order_by(ids).limit(number_in_text(1)))
    if first > lowest and oldest is not None and oldest >= since:
        first = min(first_since(connection, (ids, claimed_at), since, lowest, first), first)
    slices = min(SLICES, EXAMINED)
    size = EXAMINED // slices
    return _Sample(first, highest, max(size, -(-(highest - first + 1) // slices)), size, earlier=first > lowest)


def _sampled(connection: Connection, sample: _Sample, period: Period) -> Select[Any]:
    """Select the jobs that ended by one of the sample's attempts."""
    begin = select(literal(sample.first, BigInteger).label("first")).cte("slice", recursive=True)
    following = begin.c.first + literal(sample.step, BigInteger)
    slices = begin.union_all(select(following).where(following <= literal(sample.last, BigInteger)))
    ids = job_attempt.c.id
    within = and_(ids >= slices.c.first, ids < slices.c.first + literal(sample.size, BigInteger))
    attempts: FromClause = job_attempt
    if connection.dialect.name == "postgresql":
        # The limit says that a slice is short. Without it, a plan takes it for a part of the table.
        columns = (job_attempt.c.job_id, job_attempt.c.run, job_attempt.c.number, job_attempt.c.due_at)
        attempts = select(*columns).where(within).order_by(ids).limit(number_in_text(sample.size)).lateral("attempt")
        within = true()
    ended = and_(
        job_request.c.id == attempts.c.job_id,
        job_request.c.run == attempts.c.run,
        job_request.c.attempt == attempts.c.number,
        job_request.c.state.in_(_FINAL),
    )
    of_first = due_of_first(job_request.c.id, job_request.c.run)
    due = case((attempts.c.number == number_in_text(1), attempts.c.due_at), else_=of_first)  # most have one attempt
    measures = _measures(job_request.c, due, period)
    return select(*measures).select_from(slices.join(attempts, within).join(job_request, ended))


def _counted(ended: Select[Any]) -> Select[Any]:
    """Count the jobs of each combination of values."""
    each = ended.subquery().c
    return select(*each, func.count()).group_by(*each)


def _failures(period: Period) -> Select[Any]:
    columns = job_request.c
    newest = (
        select(columns.finished_at, columns.cause)
        .where(columns.state == constant(JobState.FAILED), is_within(columns.finished_at, period))
        .order_by(desc(columns.finished_at))
        .limit(number_in_text(FAILED_COUNTED))
        .subquery()
        .c
    )
    kind = case((newest.cause == constant(Cause.CANCELLED), _CANCELLED), else_=_FAILED)
    return select(bars_ago(newest.finished_at, period).label("ago"), kind.label("kind"))


def _newest_of(organizations: Iterable[int], most: int, period: Period) -> Select[Any]:
    """Select the newest jobs of each organization that succeeded and that failed."""
    columns = job_request.c
    order = (columns.organization_id, columns.state, columns.id)
    names = (
        *("id", "run", "organization_id", "state", "cause"),
        *("created_at", "run_after", "started_at", "finished_at"),
    )
    ended = (
        select(*(columns[name] for name in names))
        # Ranges of one value, and not equalities: so only the index of ended jobs has the order.
        .where(columns.state.in_(_FINAL), columns.organization_id.is_not(None))
        .order_by(*map(desc, order))
        .limit(number_in_text(most))
    )
    parts = [
        ended.where(
            tuple_(*order) >= (organization, state, -LARGEST_ID), tuple_(*order) <= (organization, state, LARGEST_ID)
        ).subquery()
        for organization in organizations
        for state in (JobState.SUCCEEDED.value, JobState.FAILED.value)
    ]
    newest = union_all(*(select(part) for part in parts)).subquery().c
    # Others are not measured. In a subquery, because the expressions that use it would read it several times.
    due = case((is_within(newest.finished_at, period), due_of_first(newest.id, newest.run)))
    found = select(*newest, due.label("due_at")).subquery().c
    return select(found.organization_id, *_measures(found, found.due_at, period))
