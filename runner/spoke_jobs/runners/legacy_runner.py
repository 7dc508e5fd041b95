"""The ``legacy`` runner, the default: jobs are run by ``spoke-jobs worker``, tasks in the dispatching process.

=====================  ==========  ===============================================================================
JOBS_SAME_PROCESS      JOBS_SYNC   how a job is run
=====================  ==========  ===============================================================================
unset                  any         a worker claims it
set                    unset       a thread of the dispatching process claims it
set                    set         dispatching, or the commit of the session given, waits for its end; the
                                   commit of an AsyncSession does not
=====================  ==========  ===============================================================================

A thread of the dispatching process runs tasks. With TASKS_SYNC, dispatching a task waits for its end. Tasks have no
row: they are lost with the process, and a task that fails is logged and not run again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from spoke_jobs.contract.trace_context import current_traceparent
from spoke_jobs.execution.context import TaskContext
from spoke_jobs.execution.hooked_functions import with_task_hooks
from spoke_jobs.execution.in_process import InProcessWorker, JobServices, run_before_exit, run_to_completion
from spoke_jobs.execution.run_sequence import call
from spoke_jobs.job_options import ALL_CAPABILITIES, Capability
from spoke_jobs.ledger.after_commit import run_safely, wait_for_outer_commits
from spoke_jobs.ledger.port import SessionFactory
from spoke_jobs.model import JobFilter, JobRequest
from spoke_jobs.payloads import decode_payload
from spoke_jobs.registry import Definition, Registry, own_name
from spoke_jobs.runners.prepare import prepare_task
from spoke_jobs.runners.sql_runner import SqlRunner
from spoke_jobs.settings import Settings
from spoke_jobs.shared.event_loops import on_event_loop
from spoke_jobs.type_names import TypeName

NAME = "legacy"
_TASK_THREADS = 8
_PRUNED_AT_ONCE = 100
_OWN = JobFilter(runner=NAME)

logger = logging.getLogger(__name__)


class LegacyRunner(SqlRunner):
    """See the module's docstring."""

    name = NAME

    def __init__(self, settings: Settings, registry: Registry) -> None:
        super().__init__(settings, registry)
        self._assigned = settings.jobs_same_process

    @property
    def capabilities(self) -> Collection[Capability]:
        """Return the options that are honored.

        With JOBS_SAME_PROCESS an attempt can't be ended. With JOBS_SYNC it can't be deferred either.
        """
        if not self.settings.jobs_same_process:
            return ALL_CAPABILITIES
        if self.settings.jobs_sync:
            return ALL_CAPABILITIES - {Capability.TIMEOUT, Capability.START_TIMEOUT, Capability.RUN_AFTER}
        return ALL_CAPABILITIES - {Capability.TIMEOUT}

    def _reset(self) -> None:
        super()._reset()
        self._starting = threading.Lock()
        self._worker: InProcessWorker | None = None
        self._tasks: ThreadPoolExecutor | None = None
        self._closing = threading.Event()

    def dispatch_task(self, name: TypeName, payload: Any = None, *, session: Session | None = None) -> None:
        """Run a task. A failure is logged, and the task is not retried."""
        definition, text = prepare_task(name, payload, self.registry)
        task = LocalTask(definition, own_name(name, definition), text, current_traceparent() or "")

        def sessions() -> Session:
            return Session(self.ledger.engine)

        def effect() -> None:
            if self.settings.tasks_sync and not on_event_loop():
                run_task(task, sessions)
            else:
                self._task_threads().submit(run_task, task, sessions)

        self._when_committed(session, effect)

    def finish_tasks(self) -> None:
        """Wait until every task that this process dispatched has run."""
        wait_for_outer_commits()
        with self._starting:
            threads, self._tasks = self._tasks, None
        if threads is not None:
            threads.shutdown(wait=True)

    def close(self) -> None:
        """Run this process's due jobs and tasks, then release threads and connections."""
        self._reset_if_forked()  # the parent's connections are not this process's to close
        self.finish_tasks()
        self._closing.set()
        self._closing = threading.Event()
        if self._worker is not None:
            self._worker.finish()
            self._worker = None
        if self._ledger is not None:
            self._ledger.close_notifier()
            self._ledger.engine.dispose()
            self._ledger = None

    def _launch(self, jobs: Sequence[JobRequest]) -> None:
        services = self._attempt_services()
        if not self.settings.jobs_sync:
            self._in_process_worker(services).wake()
            return
        run = partial(
            run_to_completion, services=services, lease_seconds=self.settings.lease_seconds, stop=self._closing
        )
        for job in jobs:
            # A blocked job may have been unblocked by the end of one before it. A row of an earlier dispatch, which has
            # the unique key or is retried, may be of another runner.
            if job.runner == NAME:
                run_safely(partial(run, job))
        for batch_id in dict.fromkeys(job.batch_id for job in jobs if job.batch_id is not None):
            self._wake(batch_id)  # nobody else runs the job that follows

    @property
    def _launches(self) -> bool:
        return self.settings.jobs_same_process  # else a worker claims it

    def start(self) -> None:
        """With JOBS_SAME_PROCESS: run the jobs that an earlier process left."""
        if self.settings.jobs_same_process and not self.settings.jobs_sync:
            self._in_process_worker(self._attempt_services()).wake()

    def _in_process_worker(self, services: JobServices) -> InProcessWorker:
        with self._starting:
            if self._worker is None or not self._worker.alive:
                self._worker = InProcessWorker(
                    NAME, services, lease_seconds=self.settings.lease_seconds, poll_seconds=self.settings.poll_seconds
                )
                self._worker.start()
                run_before_exit(self._worker.finish)
            return self._worker

    def _attempt_services(self) -> JobServices:
        ledger = self.ledger
        return JobServices(
            ledger,
            self.registry,
            lambda: Session(ledger.engine),
            decide=True,
            # A thread can't be killed. The job is asked to stop, and its commits are refused.
            on_stop=lambda _reason: None,
            # There may be no worker that deletes rows.
            after_attempt=lambda: None if self.settings.keeps_successes else ledger.prune(_PRUNED_AT_ONCE, which=_OWN),
        )

    def _task_threads(self) -> ThreadPoolExecutor:
        self._reset_if_forked()
        with self._starting:
            if self._tasks is None:
                self._tasks = ThreadPoolExecutor(_TASK_THREADS, "spoke-task")
            return self._tasks


@dataclass(frozen=True, slots=True)
class LocalTask:
    """A task that this process runs."""

    definition: Definition
    name: str
    """As it was dispatched."""
    text: str
    """The payload, as JSON text."""
    traceparent: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


def run_task(task: LocalTask, sessions: SessionFactory) -> None:
    """Run a task in this thread. If it raises, log the exception with the task's id."""
    definition = task.definition
    own_logger = logging.getLogger(f"spoke_jobs.task.{definition.name}")
    context = TaskContext(task.id, 1, own_logger, sessions=sessions, traceparent=task.traceparent)
    try:
        payload = decode_payload(definition.name, definition.payload, task.text)
        hooked, _ = with_task_hooks(definition, context, payload, task.name)
        call(hooked, context, payload)
        context.finish()
    except (Exception, asyncio.CancelledError):
        logger.exception("task %s (%s) failed", task.id, definition.name)
    except SystemExit as error:
        logger.error("task %s (%s) called sys.exit(%r)", task.id, definition.name, error.code)  # noqa: TRY400
    finally:
        context.close()
