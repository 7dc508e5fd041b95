"""Queries for the command line. Each runs in one read-only transaction, so that its parts are consistent.

Running jobs do not use these queries. Each reads a bounded number of rows, or uses an index of unfinished rows only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, Engine, desc, func, select

from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.audit.audit_events import ANY_EVENT, Event, EventFilter
from spoke_jobs.ledger.cluster.reports import reports_of
from spoke_jobs.ledger.columns.clock import read_clock
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.lifecycle import checkpoints
from spoke_jobs.ledger.limits_and_pauses import current_limits
from spoke_jobs.ledger.limits_and_pauses.limit_rows import read_limits
from spoke_jobs.ledger.maintenance import pruning
from spoke_jobs.ledger.reading import crowd, dependency_queries
from spoke_jobs.ledger.reading.crowd import WaitingJob
from spoke_jobs.ledger.reading.crowd_facts import Crowd, read_crowd
from spoke_jobs.ledger.reading.dependency_queries import Dependent, Link
from spoke_jobs.ledger.reading.event_actors import with_cancellers
from spoke_jobs.ledger.reading.failure_facts import FACTS
from spoke_jobs.ledger.reading.situations import NEWEST, Situation, newest_attempts, situation_of
from spoke_jobs.ledger.reading.statistics import GroupedBy, Statistics, statistics
from spoke_jobs.ledger.reading.usage_queries import TypeUsage, usage_by_type
from spoke_jobs.ledger.rows import MANY_COLUMNS, to_request
from spoke_jobs.ledger.sql import filters
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.limits.admission import Admission, LimitSet
from spoke_jobs.limits.job_limit import JobLimit
from spoke_jobs.model import ANY_JOB, Attempt, AttemptReport, JobFilter, JobRequest, JobState, Saved


class LimitState(NamedTuple):
    """A limit, and how many jobs of its scope run."""

    limit: JobLimit
    running: int


class SelectedJob(NamedTuple):
    """A job that a filter selects."""

    id: int
    job_type: str
    state: str


class Queries:
    """Queries on a ledger's database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def now(self) -> datetime:
        """Get the database's time."""
        with self._reading() as connection:
            return read_clock(connection)

    def jobs(self, ids: Sequence[int]) -> tuple[datetime, list[JobRequest]]:
        """Get the database's time, and the jobs that exist, with small payloads, in the order of their ids."""
        statement = select(*MANY_COLUMNS).where(job_request.c.id.in_(ids)).order_by(job_request.c.id)
        with self._reading() as connection:
            found = [to_request(row) for row in connection.execute(statement).mappings()]
            return read_clock(connection), with_cancellers(connection, found)

    def newest(self, limit: int, which: JobFilter = ANY_JOB) -> list[JobRequest]:
        """List the newest jobs, newest first, with small payloads."""
        conditions = filters.conditions(which)
        statement = select(*MANY_COLUMNS).where(*conditions).order_by(desc(job_request.c.id)).limit(limit)
        with self._reading() as connection:
            found = [to_request(row) for row in connection.execute(statement).mappings()]
            return with_cancellers(connection, found)

    def with_cancellers(self, jobs: Sequence[JobRequest]) -> list[JobRequest]:
        """Return the jobs, with messages that name who cancelled them."""
        with self._reading() as connection:
            return with_cancellers(connection, jobs)

    def selected(self, which: JobFilter, limit: int | None = None) -> list[SelectedJob]:
        """List the jobs that a filter selects, or the newest of them, oldest first."""
        statement = (
            select(job_request.c.id, job_request.c.job_type, job_request.c.state)
            .where(*filters.conditions(which))
            .order_by(desc(job_request.c.id))
            .limit(limit)
        )
        with self._reading() as connection:
            return [SelectedJob(*row) for row in reversed(connection.execute(statement).all())]

    def statistics(self, by: GroupedBy, period_seconds: float, which: JobFilter) -> Statistics:
        """Count jobs, and measure how long they wait and take."""
        with self._reading() as connection:
            return statistics(connection, by, period_seconds, which)

    def usage_by_type(self, which: JobFilter) -> list[TypeUsage]:
        """Return what the newest successes of each type used."""
        with self._reading() as connection:
            return usage_by_type(connection, which)

    def prunable(self, older_than_seconds: float | None, which: JobFilter) -> dict[JobState, int]:
        """Count the jobs that `prune` would delete, by state."""
        statement = (
            select(job_request.c.state, func.count())
            .where(*pruning.prunable(older_than_seconds, which))
            .group_by(job_request.c.state)
        )
        with self._reading() as connection:
            return {JobState(state): count for state, count in connection.execute(statement)}

    def attempts(self, job_id: int) -> tuple[Attempt, ...]:
        """Get a job's newest attempts, oldest first, at most :data:`NEWEST`."""
        with self._reading() as connection:
            return newest_attempts(connection, job_id)

    def newest_attempt(self, job_id: int) -> tuple[Attempt, ...]:
        """Get a job's newest attempt alone; empty if it had none."""
        with self._reading() as connection:
            return newest_attempts(connection, job_id, 1)

    def reports(self, job_id: int) -> tuple[AttemptReport, ...]:
        """Get what the cluster said about a job's newest failed attempts, oldest first, at most :data:`NEWEST`."""
        with self._reading() as connection:
            return reports_of(connection, job_id, NEWEST)

    def saved(self, job_id: int) -> Sequence[Saved]:
        """Get what a job's attempts have saved: the checkpoint, and at most :data:`NEWEST` of the newest steps."""
        with self._reading() as connection:
            return checkpoints.saved(connection, job_id, NEWEST)

    def links(self, job_id: int) -> tuple[Link, ...]:
        """Get what a job depends on, directly or not."""
        with self._reading() as connection:
            return dependency_queries.links(connection, job_id)

    def dependents(self, job_id: int) -> tuple[Dependent, ...]:
        """Get the jobs that depend on a job directly, or some of them if there are many."""
        with self._reading() as connection:
            return dependency_queries.dependents(connection, job_id)

    def events(self, limit: int | None = None, which: EventFilter = ANY_EVENT) -> list[Event]:
        """List the newest events that pass the filter, newest first."""
        with self._reading() as connection:
            return audit_events.events(connection, limit, which)

    def limits(self) -> list[LimitState]:
        """List the limits, rates and pauses, by scope."""
        with self._reading() as connection:
            limits = LimitSet(read_limits(connection))
            admission = Admission(limits, current_limits.running_jobs(connection, limits.kinds), read_clock(connection))
            return [LimitState(limit, admission.running(limit)) for limit in limits.limits]

    def held(self, jobs: Sequence[JobRequest]) -> dict[int, Wait]:
        """Return the pause, limit or rate that holds back each of the waiting jobs, by the job's id."""
        waiting = [job for job in jobs if job.state is JobState.WAITING and job.executor is not Executor.CLUSTER]
        if not waiting:
            return {}
        with self._reading() as connection:
            admission = current_limits.read_admission(connection)
            found = {job.id: admission.why_held(Subject.of(job)) for job in waiting}
        return {job_id: wait for job_id, wait in found.items() if wait is not None}

    def crowd(
        self, period_seconds: float, which: JobFilter = ANY_JOB, cap: int | None = None, most: int = FACTS
    ) -> Crowd:
        """Count the waiting jobs, and those that have failed for good within the period, that pass the filter.

        :param cap: the most jobs of each state that are counted.
        :param most: of how many groups of failed jobs more is read than their counts: of the largest ones.
        """
        with self._reading() as connection:
            return read_crowd(connection, period_seconds, which, cap, most)

    def waiting(self) -> list[WaitingJob]:
        """List all waiting jobs with what their rows say about the reason, oldest first."""
        with self._reading() as connection:
            return list(crowd.waiting_jobs(connection, LimitSet(read_limits(connection))))

    def situation(self, job_id: int, cap: int | None = None) -> Situation | None:
        """Get a job's situation; None if there is no such job.

        :param cap: the most jobs before a waiting one that are examined, and the most that wait for the lock of a
            running one. Of a waiting one's priority, at most :data:`.situations._OF_PRIORITY`.
        """
        with self._reading() as connection:
            return situation_of(connection, job_id, cap)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        options = {READ_ONLY: True}
        if self.engine.dialect.name == "postgresql":
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}  # type: ignore[dict-item]
        with self.engine.connect().execution_options(**options) as connection:
            yield connection
