"""Read the progress of jobs for many viewers: one statement for all jobs that somebody follows, at intervals.

Notifications do not help here. PostgreSQL tells of dispatches and of changed limits, not of a job's progress or its
end: a NOTIFY for each report would make all commits wait for one lock (:mod:`spoke_jobs.ledger.notify`).

An end user sees a job's state, how far it is, and perhaps a text of the job. Nothing else is said about it: not its
type, its cause of failure, or that it waits for another job.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.engine import reason_of
from spoke_jobs.ledger.reading.progress_queries import ReportedProgress, reported_progress
from spoke_jobs.model import JobState
from spoke_jobs.shared.clean_text import visible_in_a_line
from spoke_jobs.shared.outage_log import OutageLog

MESSAGE_LIMIT = 200
"""The most characters of a job's text that are shown, as of `ctx.progress`. Other code may write longer ones."""


@dataclass(frozen=True, slots=True)
class ShownProgress:
    """What is shown."""

    state: str
    """``waiting``, ``running``, ``succeeded`` or ``failed``."""
    percent: int | None
    """From 0 to 100; None after a failure."""
    message: str
    """A text of the job; empty if there is none, or if texts are not shown."""
    ended: bool
    """Whether nothing will change any more."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self)


def shown_progress(reported: ReportedProgress, *, messages: bool) -> ShownProgress:
    """Return what is shown of a job.

    :param messages: whether the job's own texts are shown: its progress messages, and the reason of `Discard`. The text
        of any other exception may hold values that were not written for users, so it is never shown.
    """
    state = JobState.WAITING if reported.state is JobState.BLOCKED else reported.state
    text = reported.message if messages and _is_for_users(reported) else ""
    # A text that is cut before its characters are escaped has no half of an escape at its end.
    return ShownProgress(state.value, _percent(reported), visible_in_a_line(text[:MESSAGE_LIMIT]), state.final)


def _is_for_users(reported: ReportedProgress) -> bool:
    """Whether the job's own code wrote the message for people. While a job waits, it is why its last attempt failed."""
    if reported.state is JobState.FAILED:
        return reported.cause == Cause.DISCARDED
    return reported.state in (JobState.RUNNING, JobState.SUCCEEDED)


def _percent(reported: ReportedProgress) -> int | None:
    if reported.state is JobState.RUNNING:
        return min(max(reported.status, 0), 100)
    return {JobState.SUCCEEDED: 100, JobState.FAILED: None}.get(reported.state, 0)


FRESH_SECONDS = 0.5
"""For how long what was read is given to others who ask. So each process reads a job at most twice a second."""

logger = logging.getLogger(__name__)


class ProgressUnavailableError(Exception):
    """The database does not answer."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a statement has found."""

    at: float
    reported: ReportedProgress | None
    failed: bool = False
    """Whether the statement failed. Nobody tries again while this is fresh."""


class ProgressReads:
    """Reads on one thread, so that there is one statement at a time. Those who ask meanwhile share the next one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, "spoke-progress")
        self._lock = threading.Lock()
        self._wanted: set[int] = set()
        self._followed: Counter[int] = Counter()
        self._found: dict[int, _Found] = {}
        self._outage = OutageLog(logger, "the database", began="could not read the progress of jobs")

    @property
    def followers(self) -> int:
        """How many viewers follow jobs."""
        return self._followed.total()

    def followers_of(self, job_id: int) -> int:
        """How many viewers follow a job."""
        return self._followed[job_id]

    @contextmanager
    def following(self, job_id: int) -> Iterator[None]:
        """Read the job with all others that are followed, until the end of the block."""
        with self._lock:
            self._followed[job_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._followed[job_id] -= 1
                self._followed += Counter()  # forget those that nobody follows

    async def progress(self, job_id: int) -> ReportedProgress | None:
        """Return the progress of a job, at most :data:`FRESH_SECONDS` old; None if it has no row.

        :raises ProgressUnavailableError: if the database does not answer.
        """
        found = self._fresh(job_id)
        if found is None:
            with self._lock:
                self._wanted.add(job_id)
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._read, job_id)
        if found.failed:
            raise ProgressUnavailableError
        return found.reported

    def close(self) -> None:
        """End the thread, and close connections."""
        self._thread.shutdown()
        self._engine.dispose()

    def _fresh(self, job_id: int) -> _Found | None:
        found = self._found.get(job_id)
        return found if found is not None and time.monotonic() - found.at < FRESH_SECONDS else None

    def _read(self, job_id: int) -> _Found:
        """Read all jobs that are wanted or followed, unless the last statement has found this one."""
        with self._lock:
            if (found := self._fresh(job_id)) is not None:
                self._wanted.discard(job_id)
                return found
            ids = {job_id, *self._wanted, *self._followed}
            self._wanted.clear()
        try:
            rows, failed = reported_progress(self._engine, ids), False
            self._outage.recovered()
        except SQLAlchemyError as error:  # also a pool without a free connection
            rows, failed = {}, True
            self._outage.failed(reason_of(error) if isinstance(error, DBAPIError) else type(error).__name__)
        at = time.monotonic()
        kept = {each: found for each, found in self._found.items() if at - found.at < FRESH_SECONDS}
        self._found = kept | {each: _Found(at, rows.get(each), failed) for each in ids}
        return self._found[job_id]
