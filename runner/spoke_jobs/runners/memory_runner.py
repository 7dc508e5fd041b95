"""The ``memory`` runner, for an application's own tests: it records dispatches, and ``drain()`` runs them.

The ledger is in memory, and nothing is written to the application's database. The test's session factory makes the
``ctx.session`` of jobs. A dispatch with ``session=`` takes effect when that session's root transaction is committed.
Many tests keep an outer transaction open and roll it back at their end. If a session is joined to such a transaction,
its dispatches take effect at its own commit. The rollback of the outer transaction undoes them.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoke_jobs.contract.trace_context import current_traceparent
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.execution.attempt import AttemptServices
from spoke_jobs.execution.context import TaskContext
from spoke_jobs.execution.hooked_functions import with_task_hooks
from spoke_jobs.execution.run_sequence import call
from spoke_jobs.execution.thread_attempt import run_attempt
from spoke_jobs.ledger.after_commit import after_commit, pending_rows, plain_session, wait_for_outer_commits
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.memory_ledger import MemoryLedger, Reserved
from spoke_jobs.ledger.port import SessionFactory
from spoke_jobs.middleware.hooks import Middleware
from spoke_jobs.model import JobData, JobRequest, JobState
from spoke_jobs.payloads import decode_payload
from spoke_jobs.registry import Registry, own_name
from spoke_jobs.runners.prepare import prepare_job, prepare_task
from spoke_jobs.runners.runner import Runner
from spoke_jobs.settings import Settings
from spoke_jobs.type_names import TypeName

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits

NAME = "memory"
_LEASE_SECONDS = 60.0
_ATTEMPTS_LIMIT = 100
"""The most attempts per job in one drain. If more are needed, a job probably dispatches itself endlessly."""


@dataclass(frozen=True, slots=True)
class TaskInMemory:
    """A task as it was dispatched."""

    name: str
    payload: str
    """JSON text."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    traceparent: str = ""
    """The W3C trace context of the dispatch; empty if there was none."""


class _Clock:
    """A clock that a drain may advance, so that a retry's backoff takes no time. In milliseconds, as SQLite's."""

    def __init__(self) -> None:
        self._ahead = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> datetime:
        now = max(datetime.now(UTC), self._ahead)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def forward_to(self, when: datetime) -> None:
        self._ahead = max(self._ahead, when + timedelta(milliseconds=1))


class MemoryRunner(Runner):
    """See the module's docstring. ``jobs`` and ``tasks`` list what was dispatched; ``drain()`` runs it."""

    name = NAME

    def __init__(self, settings: Settings, registry: Registry, sessions: SessionFactory | None = None) -> None:
        self.registry = registry
        self._clock = _Clock()
        self.ledger = MemoryLedger(self._clock)
        self._sessions = sessions or _no_sessions
        self._tasks: list[TaskInMemory] = []
        self._done_tasks = 0

    def fully_configured(self) -> bool:
        """Return True: this runner needs no settings."""
        return True

    @property
    def middleware(self) -> Sequence[Middleware]:
        """The middleware of the registry."""
        return self.registry.middleware

    @property
    def limits(self) -> SqlLimits:
        """The ledger's limits, rates and pauses. Those that an application declares apply once a test declares them."""
        return self.ledger.limits

    @property
    def jobs(self) -> Sequence[JobRequest]:
        """Return the jobs that were dispatched and committed, oldest first."""
        return self.ledger.all_jobs()

    @property
    def tasks(self) -> Sequence[TaskInMemory]:
        """Return the tasks that were dispatched and committed, oldest first."""
        return list(self._tasks)

    def dispatch_job(self, job_data: JobData, *, session: Session | None = None) -> JobRequest:
        """Record a job.

        With a session the returned row is not in ``jobs`` before the commit.
        """
        new = prepare_job(job_data, self.registry, runner=NAME)
        if session is None:
            return self.ledger.insert(new)
        own_session = plain_session(session)
        reserved = self.ledger.reserve(new, _reserved_in(own_session))
        if self.ledger.get(reserved.job.id) != reserved.job:  # it is new, or changed by this dispatch
            after_commit(
                own_session,
                lambda: True,
                lambda: self.ledger.publish(reserved),
                undo=lambda: self.ledger.withdraw(reserved),
                rows=(reserved,),
            )
        return reserved.job

    def get_job(self, job_id: int | UUID, *, session: Session | None = None) -> JobRequest | None:
        pending = [] if session is None else _reserved_in(plain_session(session))
        mine = (one.job for one in reversed(pending) if job_id in (one.job.id, one.job.uid))
        return next(mine, None) or self.ledger.get(job_id)

    def retry_job(self, job_id: int | UUID, *, clear_checkpoints: bool = False) -> JobRequest | None:
        job = self.ledger.get(job_id)
        return job and self.ledger.retry(job.id, clear_checkpoints=clear_checkpoints)

    def run_job_now(self, job_id: int | UUID, by: str = "") -> JobRequest | None:
        job = self.ledger.get(job_id)
        return job and self.ledger.run_now(job.id, by)

    def set_job_priority(self, job_id: int | UUID, priority: int, by: str = "") -> JobRequest | None:
        job = self.ledger.get(job_id)
        return job and self.ledger.set_priority(job.id, priority, by)

    def suspend_job(self, job_id: int | UUID, reason: str = "", by: str = "") -> JobRequest | None:
        job = self.ledger.get(job_id)
        return job and self.ledger.suspend(job.id, reason, by)

    def resume_job(self, job_id: int | UUID, by: str = "") -> JobRequest | None:
        job = self.ledger.get(job_id)
        return job and self.ledger.resume(job.id, by)

    def dispatch_jobs(self, jobs: Sequence[JobData], *, session: Session | None = None) -> Sequence[JobRequest]:
        for job_data in jobs:  # check all before one is written
            prepare_job(job_data, self.registry, runner=NAME)
        return [self.dispatch_job(job_data, session=session) for job_data in jobs]

    async def adispatch_job(self, job_data: JobData, *, session: AsyncSession | None = None) -> JobRequest:
        if session is None:
            return self.dispatch_job(job_data)
        return await session.run_sync(lambda inner: self.dispatch_job(job_data, session=inner))

    def open_batch(
        self, name: str, then: JobData | None = None, on_failed: str = "fail", *, session: Session | None = None
    ) -> Batch:
        """Open a batch, at once: a rollback of the session leaves it empty and open."""
        new = prepare_job(then, self.registry, runner=NAME) if then is not None else None
        return self.ledger.open_batch(name, new, on_failed)

    def close_batch(self, batch_id: int, *, session: Session | None = None) -> None:
        if session is None:
            self.ledger.close_batch(batch_id)
        else:
            after_commit(plain_session(session), lambda: True, lambda: self.ledger.close_batch(batch_id))

    def dispatch_task(self, name: TypeName, payload: Any = None, *, session: Session | None = None) -> None:
        definition, text = prepare_task(name, payload, self.registry)
        task = TaskInMemory(own_name(name, definition), text, traceparent=current_traceparent() or "")
        if session is None:
            self._tasks.append(task)
        else:
            after_commit(
                plain_session(session),
                lambda: True,
                lambda: self._tasks.append(task),
                undo=lambda: self._withdraw(task),
            )

    async def adispatch_task(self, name: TypeName, payload: Any = None, *, session: AsyncSession | None = None) -> None:
        if session is None:
            self.dispatch_task(name, payload)
            return
        await session.run_sync(lambda inner: self.dispatch_task(name, payload, session=inner))

    def _withdraw(self, task: TaskInMemory) -> None:
        if task in self._tasks[self._done_tasks :]:  # else it has run, and stays
            self._tasks.remove(task)

    def drain(self) -> Sequence[JobRequest]:
        """Run all jobs and tasks to their end, and those that they dispatch. Retries follow immediately.

        :returns: the jobs as they are then.
        :raises Exception: what a task raised, once everything has run; an ``ExceptionGroup`` if several did. A job that
            fails is recorded as failed.
        """
        wait_for_outer_commits()
        errors: list[Exception] = []
        for _ in range(_ATTEMPTS_LIMIT * (len(self.jobs) + 1)):
            if not self._run_one(errors):
                break
        else:
            raise RuntimeError("drain() ran for very long: does a job dispatch itself?")
        if errors:
            raise errors[0] if len(errors) == 1 else ExceptionGroup(f"{len(errors)} tasks failed", errors)
        return self.jobs

    def _run_one(self, errors: list[Exception]) -> bool:
        if self._done_tasks < len(self._tasks):
            task = self._tasks[self._done_tasks]
            self._done_tasks += 1
            definition = self.registry.tasks.get(task.name)
            logger = logging.getLogger(f"spoke_jobs.task.{task.name}")
            context = TaskContext(task.id, 1, logger, sessions=self._sessions, traceparent=task.traceparent)
            try:
                payload = decode_payload(task.name, definition.payload, task.payload)
                hooked, _ = with_task_hooks(definition, context, payload, task.name)
                call(hooked, context, payload)
                context.finish()
            except Exception as error:
                errors.append(error)
            finally:
                context.close()
            return True
        now = self._clock()
        claims = self.ledger.claim_batch(NAME, list(self.registry.jobs), "memory", _LEASE_SECONDS)
        if not claims:
            if (wait := self.ledger.limits.next_token_seconds) is not None:
                self._clock.forward_to(self._clock() + timedelta(seconds=wait))
                return True
            if self.ledger.settle():  # the end of a job with very many dependents leaves some
                return True
            # Time makes no job claimable that is suspended, or that is due already and waits for something else.
            waiting = [job for job in self.jobs if job.state is JobState.WAITING and job.suspended_at is None]
            due = [later for job in waiting if (later := job.due_later(now)) is not None]
            if not due:
                return False
            self._clock.forward_to(min(due))
            return True
        services = AttemptServices(
            self.ledger, self.registry, self._sessions, decide=True, on_stop=lambda _reason: None
        )
        run_attempt(claims[0], services, threading.Event())
        return True


def _reserved_in(session: Session) -> list[Reserved]:
    return [row for row in pending_rows(session) if isinstance(row, Reserved)]


def _no_sessions() -> Session:
    raise ConfigurationError(
        "ctx.session under the memory runner needs a session factory: MemoryRunner(settings, registry, sessions=...)"
    )
