"""Queries for the dashboard. Each reads a bounded number of rows, of those that a filter selects."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, case, desc, func, select, tuple_
from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.executors import CLUSTER_RUNNER
from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.ledger.audit.audit_events import EventFilter, EventPage, event_page
from spoke_jobs.ledger.claims.eligibility import Due, in_sql, not_launched
from spoke_jobs.ledger.columns.clock import clock_now, read_clock
from spoke_jobs.ledger.dependencies import batch_rows
from spoke_jobs.ledger.engine import is_not_allowed
from spoke_jobs.ledger.job_batch import ANY_BATCH, Batch, BatchFilter
from spoke_jobs.ledger.notices.mute_rows import current_mutes
from spoke_jobs.ledger.notices.notice_values import Mute
from spoke_jobs.ledger.outbox.outbox_queries import ReplicaClaims
from spoke_jobs.ledger.outbox.task_replicas import TaskReplica, replicas
from spoke_jobs.ledger.reading.chart_periods import Period, bars_ago, by_bar
from spoke_jobs.ledger.reading.crowd import failed_counts, failed_jobs
from spoke_jobs.ledger.reading.crowd_facts import Crowd
from spoke_jobs.ledger.reading.due_counts import DueCounts, due_counts
from spoke_jobs.ledger.reading.ended_counts import EndedJobs, ended_jobs
from spoke_jobs.ledger.reading.event_actors import with_cancellers
from spoke_jobs.ledger.reading.failure_facts import FACTS, failure_facts
from spoke_jobs.ledger.reading.id_bounds import bounded_by_ids
from spoke_jobs.ledger.reading.job_listing import listing
from spoke_jobs.ledger.reading.listing_plan import Place
from spoke_jobs.ledger.reading.outbox_counts import REPLICAS, OutboxCounts, claiming_replicas, outbox_counts
from spoke_jobs.ledger.reading.queries import Queries, SelectedJob
from spoke_jobs.ledger.reading.queue_counts import EXAMINED, QueueCounts, queue_counts
from spoke_jobs.ledger.reading.takers import TRACES
from spoke_jobs.ledger.reading.usage_queries import TypeUsage, usage_of
from spoke_jobs.ledger.rows import MANY_COLUMNS, REQUEST_COLUMNS, to_request
from spoke_jobs.ledger.schedules.schedule_rows import (
    ScheduleRow,
    name_after,
    perhaps_troubled,
    read_schedules,
    schedules_after,
)
from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.sql.expressions import constant, due_since, number_in_text
from spoke_jobs.ledger.tables import job_attempt, job_request
from spoke_jobs.limits.job_limit import JobLimit
from spoke_jobs.model import AttemptState, JobFilter, JobRequest, JobState, UnreadPayload

CAP = 10_000
"""The most jobs of a state that are counted."""
AHEAD = 4_000
"""The most jobs before a waiting one that are examined."""
GROUPED = 5_000
"""The most waiting, the most blocked and the most failed jobs that are grouped by reason."""
SCHEDULES_LOOKED_THROUGH = 5_000
"""Among how many schedules those of some organizations are looked for, for one page. No column has the organization."""
BATCHES_LOOKED_THROUGH = 2_000
"""Among how many batches those that a filter selects are looked for, for one page. No index has names or organizations.
"""
TROUBLED_LOOKED_THROUGH = 1_000
"""Among how many schedules that may have a problem those with one are looked for."""
PEAKS = 5
"""Of how many of a job's newest attempts the peak memory is read."""
_TROUBLED_AT_ONCE = 100
_RECENT = 1_000
"""How many of the newest jobs are read for the names of types and queues."""
_WORKERS = 50
"""The most workers that are listed."""


@dataclass(frozen=True, slots=True)
class CappedCount:
    """A number of jobs, counted up to :data:`CAP`."""

    number: int
    more: bool
    """Whether there are more, or may be."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs of one page, newest first."""

    now: datetime
    jobs: tuple[JobRequest, ...]
    newer: int | None
    """The job after which the page of newer ones begins; None if there are none."""
    older: int | None
    """The job before which the page of older ones begins; None if there are none."""
    looked: int | None = None
    """With how many jobs the filter was compared, if further ones may match; None if it was compared with all."""


@dataclass(frozen=True, slots=True)
class SelectedJobs:
    """Jobs that a filter selects, oldest first."""

    jobs: tuple[SelectedJob, ...]
    cancelled: int
    """How many more are failed jobs that somebody cancelled, if these are left out."""
    down_to: int | None
    """Down to which job they were looked for, if older ones are or may be selected; None if none are."""
    looked: int | None
    """With how many jobs the filter was compared, if older ones may match; None if it was compared with all."""


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A worker, known by the newest attempts that it claimed."""

    worker: str
    running: int
    lapsed: int
    """How many of its running attempts have a lapsed lease: it may be gone."""
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True)
class LaunchBacklog:
    """The due jobs for which sync has created no SpokeJob yet."""

    now: datetime
    number: CappedCount
    oldest_at: datetime | None
    """Since when the oldest of those that were examined has been due."""


@dataclass(frozen=True, slots=True)
class RecentNames:
    """The types and the queues of the newest jobs."""

    types: tuple[str, ...]
    queues: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SchedulePage:
    """Schedules of one page, by name."""

    now: datetime
    rows: tuple[ScheduleRow, ...]
    more: bool
    looked_through: bool = True
    """False: there may be more, because :data:`SCHEDULES_LOOKED_THROUGH` were not all."""


@dataclass(frozen=True, slots=True)
class BatchPage:
    """Batches of one page, newest first."""

    now: datetime
    batches: tuple[Batch, ...]
    more: bool
    """Whether there are more among the batches that were looked through."""
    looked_down_to: int | None
    """The lowest id of the batches that were looked through, if there are older ones."""


class DashboardQueries(Queries):
    """Queries on a ledger's database."""

    def counts(self, which: JobFilter) -> dict[JobState, CappedCount]:
        """Count the jobs of each state, up to :data:`CAP`."""
        with self._reading() as connection:
            return {state: _count(connection, state, which) for state in JobState}

    def page(self, which: JobFilter, limit: int, place: Place) -> JobPage:
        """Read a page of jobs, with small payloads."""
        with self._reading() as connection:
            found = listing(connection, bounded_by_ids(connection, which), limit, place)
            ids = [job.id for job in found.jobs]
            statement = select(*MANY_COLUMNS).where(job_request.c.id.in_(ids)).order_by(desc(job_request.c.id))
            jobs = [to_request(row) for row in connection.execute(statement).mappings()]
            further = ids[-1] if found.more else found.looked_to
            back = None if place.before is None else max(ids, default=place.before - 1)
            if upwards := place.after is not None:
                back = min(ids, default=min(place.after + 1, LARGEST_ID))
            return JobPage(
                read_clock(connection),
                tuple(with_cancellers(connection, jobs)),
                newer=further if upwards else back,
                older=back if upwards else further,
                looked=None if found.looked_to is None else found.looked,
            )

    def chosen(self, which: JobFilter, limit: int, *, without_cancelled: bool = False) -> SelectedJobs:
        """Read the newest jobs that a filter selects.

        :param without_cancelled: leave out the failed jobs that somebody cancelled. They count towards the limit.
        """
        with self._reading() as connection:
            found = listing(connection, bounded_by_ids(connection, which), limit)
        jobs = [job for job in found.jobs if not (without_cancelled and job.cause == Cause.CANCELLED)]
        return SelectedJobs(
            tuple(SelectedJob(job.id, job.job_type, job.state) for job in reversed(jobs)),
            len(found.jobs) - len(jobs),
            found.jobs[-1].id if found.more else found.looked_to,
            None if found.looked_to is None else found.looked,
        )

    def job(self, job_id: int, which: JobFilter, *, payload_bytes: int = 0) -> JobRequest | None:
        """Get a job that the filter selects, with a small payload.

        :param payload_bytes: also read a larger payload of up to so many bytes.
        """
        of_job = (job_request.c.id == job_id, *filters.conditions(which))
        with self._reading() as connection:
            row = connection.execute(select(*MANY_COLUMNS).where(*of_job)).mappings().first()
            if row is None:
                return None
            payload = to_request(row).payload
            if isinstance(payload, UnreadPayload) and payload.size <= payload_bytes:
                row = connection.execute(select(*REQUEST_COLUMNS).where(*of_job)).mappings().first() or row
            return with_cancellers(connection, [to_request(row)])[0]

    def selected_of(self, ids: Collection[int], which: JobFilter) -> set[int]:
        """Return those of the ids whose jobs the filter selects."""
        if not ids:
            return set()
        statement = select(job_request.c.id).where(job_request.c.id.in_(sorted(ids)), *filters.conditions(which))
        with self._reading() as connection:
            return set(connection.scalars(statement))

    def failures(self, period_seconds: float, which: JobFilter, most: int = FACTS) -> Crowd:
        """Count the jobs that have failed for good within the period, up to :data:`GROUPED`, those that failed last.

        :param most: of how many of their groups more is read than their counts: of the largest ones.
        """
        with self._reading() as connection:
            now = read_clock(connection)
            failed = failed_counts(connection, period_seconds, which, GROUPED)
            return Crowd(now, period_seconds, failed=failed, facts=failure_facts(connection, which, failed, most=most))

    def failed_types(
        self, period_seconds: float, which: JobFilter, kinds: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[str, ...]]:
        """Return the types of the jobs that :meth:`failures` counts, of these causes and fingerprints, by both."""
        if not kinds:
            return {}
        failed = failed_jobs(period_seconds, which, GROUPED)
        kind = (failed.cause, failed.fingerprint)
        statement = select(*kind, failed.job_type).where(tuple_(*kind).in_(sorted(kinds))).distinct()
        found: dict[tuple[str, str], list[str]] = {}
        with self._reading() as connection:
            for cause, fingerprint, job_type in connection.execute(statement):
                found.setdefault((cause, fingerprint), []).append(job_type)
        return {kind: tuple(sorted(types)) for kind, types in found.items()}

    def failed_by_time(
        self, period: Period, which: JobFilter, kinds: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[int, ...]]:
        """Count the jobs that :meth:`failures` counts, of these causes and fingerprints, by both, and by time."""
        if not kinds:
            return {}
        failed = failed_jobs(period.seconds, which, GROUPED)
        kind = (failed.cause, failed.fingerprint)
        each = select(*kind, bars_ago(failed.finished_at, period).label("ago")).where(tuple_(*kind).in_(sorted(kinds)))
        columns = each.subquery().c
        counted: Select[Any] = select(*columns, func.count()).group_by(*columns)
        found: dict[tuple[str, str], list[tuple[int | None, int]]] = {}
        with self._reading() as connection:
            for cause, fingerprint, ago, number in connection.execute(counted):
                found.setdefault((cause, fingerprint), []).append((ago, number))
        return {kind: by_bar(counts, period) for kind, counts in found.items()}

    def mutes(self, limit: int) -> list[Mute]:
        """Read the mutes that have not ended, by id; at most ``limit``, the newest."""
        with self._reading() as connection:
            return current_mutes(connection, limit)

    def output_tails(self, job_ids: Collection[int]) -> dict[int, str]:
        """Return the last lines of the output of each job's newest attempt, of the jobs that have any."""
        if not job_ids:
            return {}
        newest = (
            select(job_attempt.c.output_tail)
            .where(job_attempt.c.job_id == job_request.c.id)
            .order_by(desc(job_attempt.c.run), desc(job_attempt.c.number))
            .limit(1)
            .scalar_subquery()
        )
        statement = select(job_request.c.id, newest).where(job_request.c.id.in_(sorted(job_ids)))
        with self._reading() as connection:
            return {job_id: text for job_id, text in connection.execute(statement) if text}

    def peaks(self, job_ids: Collection[int]) -> dict[int, tuple[int, ...]]:
        """Return the peak memory in bytes of each job's newest attempts, newest first, of those that were measured."""
        found = {}
        newest = (
            select(job_attempt.c.peak_memory_bytes)
            .order_by(desc(job_attempt.c.run), desc(job_attempt.c.number))
            .limit(PEAKS)
        )
        with self._reading() as connection:
            for job_id in job_ids:
                peaks = connection.scalars(newest.where(job_attempt.c.job_id == job_id))
                found[job_id] = tuple(peak for peak in peaks if peak is not None)
        return {job_id: peaks for job_id, peaks in found.items() if peaks}

    def usage_of(self, job_type: str, which: JobFilter) -> TypeUsage:
        """Return what the newest successes of a type used, of those that the filter selects."""
        with self._reading() as connection:
            return usage_of(connection, job_type, which)

    def queues(self, which: JobFilter, limits: Collection[JobLimit] = ()) -> QueueCounts:
        """Count the jobs of each queue, and those of them that pauses hold."""
        with self._reading() as connection:
            return queue_counts(connection, which, limits)

    def due(self, which: JobFilter) -> DueCounts:
        """Count the due jobs by type and by organization, and name the oldest. Of many, it does not examine all."""
        with self._reading() as connection:
            return due_counts(connection, which)

    def ended(self, which: JobFilter, period: Period) -> EndedJobs:
        """Count and measure the jobs that ended in a period. Of the filter, only the organizations count."""
        with self._reading() as connection:
            return ended_jobs(connection, which.organizations, period)

    def outbox(self) -> OutboxCounts:
        """Count the tasks of the outbox. They belong to no organization."""
        with self._reading() as connection:
            return outbox_counts(connection)

    def claiming_replicas(self) -> list[ReplicaClaims]:
        """List the replicas of the task deployment that have claims under a valid lease."""
        with self._reading() as connection:
            return claiming_replicas(connection)

    def task_replicas(self) -> list[TaskReplica]:
        """Read what replicas of the task deployment have said last, by name. At most :data:`REPLICAS` are read.

        It is empty if this role may not read that: the right is new, and pages do without it.
        """
        try:
            with self._reading() as connection:
                return replicas(connection, REPLICAS)
        except DBAPIError as error:
            if is_not_allowed(error):
                return []
            raise

    def launch_backlog(self) -> LaunchBacklog:
        """Count the due jobs for which sync has created no SpokeJob yet, up to :data:`CAP`.

        Of more than :data:`EXAMINED` jobs without one, due or not, it examines those with the lowest ids.
        """
        due = Due().expression()
        each = (
            select(case((due, 1), else_=0).label("due"), case((due, due_since()), else_=None).label("due_at"))
            .where(*in_sql(*not_launched()))
            .order_by(job_request.c.id)
            .limit(EXAMINED)
            .subquery()
            .c
        )
        counts = select(func.coalesce(func.sum(each.due), 0), func.count(each.due), func.min(each.due_at))
        with self._reading() as connection:
            number, examined, oldest_at = connection.execute(counts).one()
            now = read_clock(connection)
        return LaunchBacklog(now, CappedCount(min(number, CAP), number > CAP or examined >= EXAMINED), oldest_at)

    def schedules(
        self, after: str, limit: int, organizations: Collection[int] | None, *, most_looks: int = 1
    ) -> SchedulePage:
        """Read a page of schedules, by name.

        :param after: only schedules after this name.
        :param organizations: only schedules whose jobs are of one of these; None: all schedules.
        :param most_looks: how often to look through :data:`SCHEDULES_LOOKED_THROUGH` schedules, until one is found.
        """
        for _ in range(most_looks):
            page, last = self._look_for_schedules(after, limit, organizations)
            if page.rows or last is None:
                break
            after = last
        return page

    def _look_for_schedules(
        self, after: str, limit: int, organizations: Collection[int] | None
    ) -> tuple[SchedulePage, str | None]:
        """Return a page of schedules, and the last name that was looked at if there may be more after it."""
        found: list[ScheduleRow] = []
        last: str | None = None
        more = True
        with self._reading() as connection:
            now = read_clock(connection)
            if organizations is not None:
                last = name_after(connection, after, SCHEDULES_LOOKED_THROUGH)
            while more and len(found) <= limit:
                rows = schedules_after(connection, after, limit + 1, until=last, organizations=organizations)
                found += _of_organizations(rows, organizations)
                more = len(rows) > limit
                after = rows[-1].name if rows else after
        return SchedulePage(now, tuple(found[:limit]), len(found) > limit, last is None or len(found) > limit), last

    def schedule(self, name: str, organizations: Collection[int] | None) -> SchedulePage:
        """Read one schedule. Without one of this name, or if it is of another organization, the page is empty."""
        with self._reading() as connection:
            now = read_clock(connection)
            rows = read_schedules(connection, name)
        return SchedulePage(now, _of_organizations(rows, organizations), more=False)

    def perhaps_troubled(self, organizations: Collection[int] | None) -> Iterator[SchedulePage]:
        """Yield pages of the schedules that may have a problem, up to :data:`TROUBLED_LOOKED_THROUGH`, by name.

        Whoever has seen enough of them reads no further page: if no process serves schedules, all have a problem.
        """
        after, left, more = "", TROUBLED_LOOKED_THROUGH, True
        while more and left > 0:
            asked = min(left, _TROUBLED_AT_ONCE)
            with self._reading() as connection:
                now = read_clock(connection)
                rows = perhaps_troubled(connection, after, asked, organizations)
            more, left = len(rows) == asked, left - len(rows)
            after = rows[-1].name if rows else after
            yield SchedulePage(now, _of_organizations(rows, organizations), more)

    def batches(self, which: BatchFilter, limit: int) -> BatchPage:
        """Read the newest batches that pass the filter, of the newest :data:`BATCHES_LOOKED_THROUGH`."""
        last: int | None = None
        with self._reading() as connection:
            if which.id is None and which.then_id is None and replace(which, before=None) != ANY_BATCH:
                last = batch_rows.after_the_newest(connection, BATCHES_LOOKED_THROUGH, which.before)
            found = batch_rows.newest(connection, limit + 1, which if last is None else replace(which, after=last))
            now = read_clock(connection)
        return BatchPage(now, tuple(found[:limit]), len(found) > limit, None if last is None else last + 1)

    def event_page(self, which: EventFilter, limit: int) -> EventPage:
        """Read a page of events."""
        with self._reading() as connection:
            return event_page(connection, which, limit)

    def workers(self, which: JobFilter) -> list[SeenWorker]:
        """List the workers of running attempts and of the newest ones, those that were seen last first.

        A pod ends with its attempt, so that only pods of running attempts are listed.
        """
        conditions = tuple(filters.conditions(which))
        lapsed = func.count().filter(job_attempt.c.lease_expires_at < clock_now())
        running = (
            select(job_attempt.c.worker, func.count(), lapsed, func.max(job_attempt.c.heartbeat_at).label("seen"))
            .join(job_request, job_request.c.id == job_attempt.c.job_id)
            .where(job_attempt.c.state == constant(AttemptState.RUNNING), *conditions)
            .group_by(job_attempt.c.worker)
            .order_by(desc("seen"), job_attempt.c.worker)
            .limit(_WORKERS)
        )
        newest = select(job_attempt).order_by(desc(job_attempt.c.id)).limit(number_in_text(TRACES)).subquery()
        # The runner of an attempt that an earlier release claimed is that of its job.
        runner = func.coalesce(func.nullif(newest.c.runner, ""), job_request.c.runner)
        recent = (
            select(newest.c.worker, func.max(newest.c.heartbeat_at).label("seen"))
            .join(job_request, job_request.c.id == newest.c.job_id)
            .where(runner != constant(CLUSTER_RUNNER), *conditions)
            .group_by(newest.c.worker)
            .order_by(desc("seen"), newest.c.worker)
            .limit(_WORKERS)
        )
        with self._reading() as connection:
            found = {row.worker: SeenWorker(*row) for row in connection.execute(running)}
            for worker, seen in connection.execute(recent):
                found.setdefault(worker, SeenWorker(worker, 0, 0, seen))
        return sorted(found.values(), key=lambda each: (each.heartbeat_at, each.worker), reverse=True)[:_WORKERS]

    def recent_names(self, which: JobFilter) -> RecentNames:
        """Return the types and the queues of the newest jobs."""
        with self._reading() as connection:
            rows = listing(connection, which, _RECENT).jobs
        types, queues = {row.job_type for row in rows}, {row.queue_name for row in rows}
        return RecentNames(tuple(sorted(types - {""})), tuple(sorted(queues - {""})))


def _of_organizations(rows: Collection[ScheduleRow], organizations: Collection[int] | None) -> tuple[ScheduleRow, ...]:
    return tuple(row for row in rows if organizations is None or row.organization_id in organizations)


def _count(connection: Connection, state: JobState, which: JobFilter) -> CappedCount:
    some = select(job_request.c.id).where(*filters.conditions(which)).limit(CAP + 1)
    if state is JobState.RUNNING:  # the attempts have an index of those that run
        some = some.join(job_attempt, job_attempt.c.job_id == job_request.c.id)
        some = some.where(job_attempt.c.state == constant(AttemptState.RUNNING))
    else:
        some = some.where(job_request.c.state == constant(state))
    number = connection.scalar(select(func.count()).select_from(some.subquery())) or 0
    return CappedCount(min(number, CAP), number > CAP)
