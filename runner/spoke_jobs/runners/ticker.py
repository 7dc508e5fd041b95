"""Dispatch the jobs of schedules: a part of the worker (`legacy`) and of sync (`kubernetes`)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from spoke_jobs.errors import InvalidPayload, SpokeJobsError
from spoke_jobs.job_options import ALL_CAPABILITIES, Capability
from spoke_jobs.ledger.audit.process_actor import process_actor
from spoke_jobs.ledger.columns.clock import waited_seconds
from spoke_jobs.ledger.schedules.schedule_rows import SERVED_SECONDS, declare
from spoke_jobs.ledger.schedules.tick_statements import seconds_until_due, tick
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest, NewJob
from spoke_jobs.registry import Registry
from spoke_jobs.runners.prepare import prepare_job
from spoke_jobs.schedules.occurrences import delay_of
from spoke_jobs.schedules.schedule import Schedule
from spoke_jobs.shared.histogram import Histogram

TICK_SECONDS = 1.0
"""The longest time between two looks at the schedules: somebody may have changed one."""
_AT_ONCE = 100
_TURNS = 10

logger = logging.getLogger(__name__)
Transaction = Callable[[], AbstractContextManager[Connection]]


def prepare_occurrence(
    schedule: Schedule,
    due: datetime,
    registry: Registry,
    runner: str,
    capabilities: Collection[Capability] = ALL_CAPABILITIES,
) -> NewJob:
    """Make the job of one occurrence.

    :raises SpokeJobsError: if the job is not declared any more, or the payload or an option is not valid any more.
    """
    definition = registry.jobs.get(schedule.job_type)
    data = schedule.dispatch(definition.payload, definition.options.payload_version, definition.upgrade)
    if schedule.timing.jitter_seconds:
        data = replace(data, run_after=due + delay_of(schedule.timing, schedule.name, due))
    new = prepare_job(data, registry, runner=runner, capabilities=capabilities)
    return replace(new, schedule=schedule.name, scheduled_for=due)


def checked_occurrence(schedule: Schedule, due: datetime, registry: Registry, runner: str) -> NewJob:
    """Make the job of one occurrence, in a process that must go on whatever the application's validators raise.

    :raises SpokeJobsError: as :func:`prepare_occurrence`, and if a validator raises anything.
    """
    try:
        return prepare_occurrence(schedule, due, registry, runner)
    except SpokeJobsError:
        raise
    except Exception as error:  # raised by the application's own validators
        raise InvalidPayload(f"{type(error).__name__} while its payload was validated") from error


class Ticker:
    """Looks at the schedules at intervals, or when the next one is due."""

    def __init__(
        self,
        registry: Registry,
        runner: str,
        reading: Transaction,
        writing: Transaction,
        clock: Callable[[], float] = time.monotonic,
        lag: Histogram | None = None,
    ) -> None:
        """Make a ticker.

        :param reading: opens a transaction that only reads.
        :param lag: observes the seconds from each due time to the dispatch of its job.
        :raises RegistrationError: if a declared schedule can't be used.
        """
        self._reading = reading
        self._writing = writing
        self._registry = registry
        self._runner = runner
        self._clock = clock
        self._lag = lag
        self._schedules = registry.schedules()
        self._types = list(registry.jobs)
        self._served: set[str] = set()
        self._begins = True
        self._next_declaration = 0.0
        self._next = 0.0

    def due_in(self) -> float:
        """Seconds until :meth:`tick_if_due` looks at the schedules again."""
        return max(0.0, self._next - self._clock())

    def tick_if_due(self) -> list[JobRequest]:
        """Dispatch what is due, if it is time to look. Return the jobs.

        :raises DBAPIError: if the database fails.
        """
        now = self._clock()
        if now < self._next:
            return []
        self._next = now + TICK_SECONDS
        if now >= self._next_declaration:
            self._declare()
            self._next_declaration = now + SERVED_SECONDS
        dispatched: list[JobRequest] = []
        for _ in range(_TURNS):
            with self._reading() as connection:
                seconds = seconds_until_due(connection, self._runner, self._served, self._types)
            if seconds is None or seconds > 0:
                self._next = now + min(TICK_SECONDS, TICK_SECONDS if seconds is None else seconds)
                break
            with self._writing() as connection:
                ticked = tick(connection, self._runner, self._served, self._types, self._prepare, _AT_ONCE)
            dispatched += ticked.dispatched
            self._observe(ticked.dispatched)
            if not ticked.schedules:  # another process dispatches them
                break
        return dispatched

    def _observe(self, jobs: Iterable[JobRequest]) -> None:
        if self._lag is None:
            return
        for job in jobs:
            if job.scheduled_for is not None:
                self._lag.observe(waited_seconds(job.scheduled_for, job.created_at))

    def _declare(self) -> None:
        with self._writing() as connection:
            self._served = declare(
                connection, self._runner, self._schedules, self._types, process_actor(), begins=self._begins
            )
        self._begins = False

    def _prepare(self, schedule: Schedule, due: datetime) -> NewJob:
        return checked_occurrence(schedule, due, self._registry, self._runner)


def ticker_of(ledger: SqlLedger, registry: Registry, runner: str, lag: Histogram | None = None) -> Ticker:
    """Make a ticker with transactions of its own."""
    return Ticker(registry, runner, ledger.reading_single, ledger.changing, lag=lag)
