"""The common part of ``legacy`` and ``kubernetes``: record a job in the caller's transaction or in one of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.ledger.after_commit import (
    after_commit,
    connection_of,
    launch_after_commit,
    plain_session,
    run_safely,
)
from spoke_jobs.ledger.audit.process_actor import process_actor
from spoke_jobs.ledger.engine import check_schema, create_engine
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.lifecycle.dispatching import dispatch_jobs, open_batch
from spoke_jobs.ledger.lifecycle.finish import close_batch
from spoke_jobs.ledger.rows import read_job
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.middleware.hooks import Middleware
from spoke_jobs.model import JobData, JobRequest, JobState, NewJob
from spoke_jobs.registry import Registry
from spoke_jobs.runners.prepare import prepare_job
from spoke_jobs.runners.runner import Runner
from spoke_jobs.runners.runtime_schedules import RuntimeSchedules
from spoke_jobs.settings import Settings
from spoke_jobs.shared.validation_text import an
from spoke_jobs.type_names import TypeName

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits


class SqlRunner(Runner):
    """A runner that records jobs in an SQL ledger. Subclasses say what follows the commit."""

    name: str
    _assigned = False
    _checks_rows = False
    """Whether ``_launch`` never blocks, and itself checks first that the rows are committed."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry
        self._reset()
        self._pid = os.getpid()

    def _reset(self) -> None:
        """Set the initial state, also in a forked child, which must not use its parent's connections.

        With SQLite, fork before the first dispatch: a child can't release locks that its parent holds.
        """
        self._ledger: SqlLedger | None = None
        self._opening = threading.Lock()

    def _reset_if_forked(self) -> None:
        if self._pid != os.getpid():
            if self._ledger is not None:
                self._ledger.engine.dispose(close=False)
            self._reset()
            self._pid = os.getpid()  # last: until then other threads of the child must see that the state is not reset

    def fully_configured(self) -> bool:
        """Return whether no setting is missing."""
        return not self.missing_settings()

    def missing_settings(self) -> list[str]:
        """Return the names of the missing environment variables, each with an explanation."""
        if self.settings.database_url.get_secret_value():
            return []
        return ["SPOKE_DATABASE_URL (the database with the ledger, sqlite:///jobs.sqlite3 for example)"]

    @property
    def ledger(self) -> SqlLedger:
        """Return the ledger, which is opened and checked at its first use.

        :raises DatabaseError: if the database can't be reached, or isn't migrated.
        """
        self._reset_if_forked()
        if self._ledger is None:
            with self._opening:
                if self._ledger is None:
                    engine = create_engine(self.settings.database)
                    check_schema(engine)
                    self._ledger = SqlLedger(engine, keeps_successes=self.settings.keeps_successes)
        return self._ledger

    @property
    def middleware(self) -> Sequence[Middleware]:
        """The middleware of the registry."""
        return self.registry.middleware

    @property
    def limits(self) -> SqlLimits:
        """The ledger's limits, rates and pauses."""
        return self.ledger.limits

    @property
    def schedules(self) -> RuntimeSchedules:
        """The ledger's schedules."""
        return RuntimeSchedules(lambda: self.ledger.engine, self.registry, self.name)

    def dispatch_job(self, job_data: JobData, *, session: Session | None = None) -> JobRequest:
        new = self._prepare(job_data)
        if session is not None:
            return self._record_many(plain_session(session), [new])[0]
        job = self.ledger.insert(new)
        run_safely(lambda: self._launch_many([job]))
        return self._read_again(job) if self._launches else job

    async def adispatch_job(self, job_data: JobData, *, session: AsyncSession | None = None) -> JobRequest:
        """Record a job. The effects of the commit do not block the event loop."""
        if session is None:
            return await asyncio.to_thread(self.dispatch_job, job_data)
        new = self._prepare(job_data)
        await self._prepare_for(session)
        return await session.run_sync(lambda inner: self._record_many(inner, [new], background=True)[0])

    def dispatch_jobs(self, jobs: Sequence[JobData], *, session: Session | None = None) -> Sequence[JobRequest]:
        new = [self._prepare(job_data) for job_data in jobs]
        if session is not None:
            return self._record_many(plain_session(session), new)
        written = self.ledger.insert_many(new)
        run_safely(lambda: self._launch_many(written))
        return [self._read_again(job) for job in written] if self._launches else written

    async def adispatch_jobs(
        self, jobs: Sequence[JobData], *, session: AsyncSession | None = None
    ) -> Sequence[JobRequest]:
        if session is None:
            return await asyncio.to_thread(self.dispatch_jobs, jobs)
        new = [self._prepare(job_data) for job_data in jobs]
        await self._prepare_for(session)
        return await session.run_sync(lambda inner: self._record_many(inner, new, background=True))

    def _prepare(self, job_data: JobData) -> NewJob:
        return prepare_job(
            job_data, self.registry, runner=self.name, assigned=self._assigned, capabilities=self.capabilities
        )

    def _record_many(
        self, session: Session, new: Sequence[NewJob], *, background: bool = False
    ) -> Sequence[JobRequest]:
        ledger = self.ledger
        jobs = dispatch_jobs(connection_of(session), new)
        if not jobs:
            return jobs
        if self._launches:
            launch_after_commit(
                session,
                jobs,
                ledger.committed,
                self._launch_many,
                background=background,
                checks_rows=self._checks_rows,
            )
        else:
            after_commit(session, lambda: True, self._notify)
        return jobs

    def _launch_many(self, jobs: Sequence[JobRequest]) -> None:
        if not jobs:
            return
        if self._launches:
            self._launch(jobs)
        else:
            self._notify()

    def _notify(self) -> None:
        self.ledger.notifier.notify()

    def _read_again(self, job: JobRequest) -> JobRequest:
        try:
            return self.ledger.get(job.id) or job
        except SQLAlchemyError:  # the job is recorded, and after an error the caller might dispatch it twice
            return job

    @property
    def _launches(self) -> bool:
        """Return whether this process launches a job once it is committed."""
        return True

    @abstractmethod
    def _launch(self, jobs: Sequence[JobRequest]) -> None:
        """Launch jobs whose rows are committed, or may be (see ``_checks_rows``). Exceptions are logged."""

    def _when_committed(self, session: Session | None, effect: Callable[[], None]) -> None:
        """Run a task's effect now, or once the session's transaction is committed. A task has no row to check."""
        if session is None:
            effect()
        else:
            after_commit(plain_session(session), lambda: True, effect)

    async def adispatch_task(self, name: TypeName, payload: Any = None, *, session: AsyncSession | None = None) -> None:
        if session is not None:
            _refuse_sync_session(session)
        await super().adispatch_task(name, payload, session=session)

    def open_batch(
        self, name: str, then: JobData | None = None, on_failed: str = "fail", *, session: Session | None = None
    ) -> Batch:
        new = self._prepare(then) if then is not None else None
        if session is None:
            return self.ledger.open_batch(name, new, on_failed)
        return open_batch(connection_of(plain_session(session)), name, new, on_failed)

    def close_batch(self, batch_id: int, *, session: Session | None = None) -> None:
        if session is None:
            self.ledger.close_batch(batch_id)
            self._wake(batch_id)
        else:
            self._close_batch(plain_session(session), batch_id)

    async def aopen_batch(
        self, name: str, then: JobData | None = None, on_failed: str = "fail", *, session: AsyncSession | None = None
    ) -> Batch:
        await self._prepare_for(session)
        return await super().aopen_batch(name, then, on_failed, session=session)

    async def aclose_batch(self, batch_id: int, *, session: AsyncSession | None = None) -> None:
        """Close a batch. What follows the commit does not block the event loop."""
        if session is None:
            await super().aclose_batch(batch_id)
            return
        await self._prepare_for(session)
        await session.run_sync(lambda inner: self._close_batch(inner, batch_id, background=True))

    async def _prepare_for(self, session: AsyncSession | None) -> None:
        """Check an event loop's session, and open the ledger in a thread."""
        if session is not None:
            _refuse_sync_session(session)
            await asyncio.to_thread(lambda: self.ledger)

    def _close_batch(self, session: Session, batch_id: int, *, background: bool = False) -> None:
        close_batch(connection_of(session), batch_id)
        after_commit(session, lambda: True, lambda: self._wake(batch_id), background=background)

    def _wake(self, batch_id: int) -> None:
        """Launch the job that follows a batch, if nothing of the batch is left."""
        batch = self.ledger.batch(batch_id)
        then = self.ledger.get(batch.then_id) if batch is not None and batch.then_id is not None else None
        if then is not None and then.state is JobState.WAITING:
            run_safely(lambda: self._launch_many([then]))

    def get_job(self, job_id: int | UUID, *, session: Session | None = None) -> JobRequest | None:
        if session is None:
            return self.ledger.get(job_id)
        return read_job(connection_of(plain_session(session)), job_id)

    def retry_job(self, job_id: int | UUID, *, clear_checkpoints: bool = False) -> JobRequest | None:
        before = self.ledger.get(job_id)
        if before is None:
            return None
        job = self.ledger.retry(before.id, process_actor(), clear_checkpoints=clear_checkpoints)
        if job is not None and job.run != before.run:
            run_safely(lambda: self._launch_many([job]))
        return job

    def run_job_now(self, job_id: int | UUID, by: str = "") -> JobRequest | None:
        before = self.ledger.get(job_id)
        job = before and self.ledger.run_now(before.id, by)
        if job is not None:
            run_safely(lambda: self._launch_many([job]))
        return job

    def set_job_priority(self, job_id: int | UUID, priority: int, by: str = "") -> JobRequest | None:
        job = self.ledger.get(job_id)
        return job and self.ledger.set_priority(job.id, priority, by)

    def suspend_job(self, job_id: int | UUID, reason: str = "", by: str = "") -> JobRequest | None:
        job = self.ledger.get(job_id)
        return job and self.ledger.suspend(job.id, reason, by)

    def resume_job(self, job_id: int | UUID, by: str = "") -> JobRequest | None:
        before = self.ledger.get(job_id)
        job = before and self.ledger.resume(before.id, by)
        if job is not None and job.state is JobState.WAITING:
            run_safely(lambda: self._launch_many([job]))
        return job

    async def aget_job(self, job_id: int | UUID, *, session: AsyncSession | None = None) -> JobRequest | None:
        if session is not None:
            _refuse_sync_session(session)
        return await super().aget_job(job_id, session=session)


def _refuse_sync_session(session: object) -> None:
    if not hasattr(session, "run_sync"):
        raise ConfigurationError(
            f"the functions for an event loop take an AsyncSession, not {an(type(session).__name__)}: "
            "use dispatch_job, dispatch_task or get_job"
        )
