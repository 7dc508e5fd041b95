"""The ``kubernetes`` runner: each job becomes a SpokeJob, which the operator runs; tasks go to the task deployment.

A job of the lane ``worker`` has no SpokeJob. Workers claim its row.

With ``SPOKE_SUBMIT=runner``, background threads try once to create the SpokeJob of each committed row. For this the
application needs one right: to create SpokeJobs in its namespace. With ``SPOKE_SUBMIT=sync`` there are no such threads,
and the application needs no cluster credentials. ``spoke-jobs sync`` creates all other SpokeJobs.

The Kubernetes client is imported and created in the background, at the first dispatch. So a process that dispatches
nothing does not load the client, and a web server does not load it before forking its workers.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from spoke_jobs.cluster import kube_environment
from spoke_jobs.cluster.manifest import needs_measurements, spokejob
from spoke_jobs.contract.executors import CLUSTER_RUNNER, LANE_RUNNER
from spoke_jobs.contract.trace_context import current_traceparent
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.ledger.after_commit import (
    after_commit,
    connection_of,
    plain_session,
    wait_for_outer_commits,
)
from spoke_jobs.ledger.cluster import syncing
from spoke_jobs.ledger.limits_and_pauses.limit_rows import OperatorLimits
from spoke_jobs.ledger.notify import TASKS_CHANNEL, Notifier
from spoke_jobs.ledger.outbox.task_outbox import insert_task
from spoke_jobs.model import JobRequest, JobState
from spoke_jobs.registry import Registry, own_name
from spoke_jobs.runners.prepare import prepare_task
from spoke_jobs.runners.sql_runner import SqlRunner
from spoke_jobs.runners.submitter import Submitter
from spoke_jobs.settings import Settings
from spoke_jobs.shared.fork_gate import ForkGate
from spoke_jobs.type_names import TypeName

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from spoke_jobs.cluster.cluster_client import SpokeJobClient
    from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits
    from spoke_jobs.tasks.client.dispatcher import TaskDispatcher

NAME = CLUSTER_RUNNER

logger = logging.getLogger(__name__)

_gate = ForkGate(seconds=5.0)
"""Each try is inside. Otherwise a child could inherit locks of OpenSSL, and none of its own tries would ever end.

A call takes four seconds at most, by its timeouts.
"""


class KubernetesRunner(SqlRunner):
    """See the module's docstring.

    :raises ConfigurationError: if the client isn't installed, or if the database is SQLite. The error about SQLite also
        names missing settings.
    """

    name = NAME
    _checks_rows = True

    def __init__(self, settings: Settings, registry: Registry) -> None:
        super().__init__(settings, registry)
        self._clients: dict[int, SpokeJobClient] = {}
        """By process id, since a forked child must not use its parent's connections."""
        self._tasks: TaskDispatcher | None = None
        self._task_notifiers: dict[int, Notifier] = {}
        """By process id, too."""
        if settings.submit == "runner" and importlib.util.find_spec("kubernetes") is None:
            raise ConfigurationError(
                "JOB_RUNNER=kubernetes needs the Python package 'kubernetes': pip install 'spoke-jobs[kubernetes]', or "
                "leave creating SpokeJobs to `spoke-jobs sync` with SPOKE_SUBMIT=sync"
            )
        if settings.database_url.get_secret_value().startswith("sqlite"):
            also = "".join(f"; set {item}" for item in self.missing_settings())
            raise ConfigurationError(
                "the runner 'kubernetes' takes no SQLite database: pods on other machines can't share its file. "
                f"Point SPOKE_DATABASE_URL to PostgreSQL, or set JOB_RUNNER=legacy{also}"
            )

    def _reset(self) -> None:
        super()._reset()
        self._connecting = threading.Lock()
        self._submitter = Submitter(self._submit, self._notify, patience_seconds=syncing.PATIENCE_SECONDS)

    def missing_settings(self) -> list[str]:
        """Return the names of the missing environment variables, each with an explanation."""
        given = self.settings
        missing = []
        if not given.database_url.get_secret_value():
            missing.append("SPOKE_DATABASE_URL (the PostgreSQL database with the ledger)")
        if given.submit == "runner":
            if not kube_environment.namespace(given.namespace):
                missing.append("SPOKE_NAMESPACE (the namespace of the SpokeJobs; this process isn't in a pod)")
            if not kube_environment.has_credentials():
                missing.append(
                    "KUBECONFIG (or a service account with its token mounted, in a pod; or SPOKE_SUBMIT=sync, to leave "
                    "creating SpokeJobs to `spoke-jobs sync`)"
                )
        return missing

    def missing_task_settings(self) -> list[str]:
        """Return the names of the environment variables that dispatching a task without a session lacks."""
        missing = []
        if not self.settings.tasks_url:
            missing.append("SPOKE_TASKS_URL (where the task deployment listens, http://texting-tasks:8080 for example)")
        if not self.settings.tasks_key.get_secret_value() and not self.settings.tasks_token_file:
            missing.append(
                "SPOKE_TASKS_TOKEN_FILE (a projected token of audience spoke-tasks; or SPOKE_TASKS_KEY, the key that "
                "the task deployment has, too)"
            )
        return missing

    @property
    def limits(self) -> SqlLimits:
        """The ledger's limits and pauses, which sync publishes for the operator."""
        return OperatorLimits(self.ledger.engine)

    def dispatch_task(self, name: TypeName, payload: Any = None, *, session: Session | None = None) -> None:
        """Send a task. Return at once; the task is kept until it has run.

        With a session it is a row of the outbox, in the session's transaction. Without one it is in this process's
        memory.

        :raises TaskBufferFull: without a session, if the buffer stays full.
        """
        definition, text = prepare_task(name, payload, self.registry)
        own, traceparent = own_name(name, definition), current_traceparent() or ""
        if session is not None:
            self._write_task(plain_session(session), own, text, traceparent)
        else:
            self._dispatcher().submit(own, text, traceparent=traceparent)

    async def adispatch_task(self, name: TypeName, payload: Any = None, *, session: AsyncSession | None = None) -> None:
        """Send a task. Waiting for room does not block the event loop."""
        if session is not None:
            await asyncio.to_thread(lambda: self.ledger)
            await super().adispatch_task(name, payload, session=session)
            return
        definition, text = prepare_task(name, payload, self.registry)
        traceparent = current_traceparent() or ""
        await self._dispatcher().asubmit(own_name(name, definition), text, traceparent=traceparent)

    def _write_task(self, session: Session, name: str, text: str, traceparent: str) -> None:
        ledger = self.ledger
        notifier = self._task_notifiers.get(os.getpid())
        if notifier is None:
            notifier = self._task_notifiers.setdefault(os.getpid(), Notifier(ledger.engine, TASKS_CHANNEL))
        insert_task(connection_of(session), NAME, name, text, traceparent)
        after_commit(session, lambda: True, notifier.notify)

    def close(self, seconds: float | None = None) -> None:
        """Deliver the tasks that are in memory, and close the connections.

        :param seconds: the longest wait for the tasks; by default the same as at a process's exit. The wait for
            SpokeJobs that are being created is one second.
        """
        self._reset_if_forked()  # the parent's connections are not this process's to close
        wait_for_outer_commits()
        self._submitter.close()
        if self._ledger is not None:
            self._ledger.close_notifier()
        if self._tasks is not None:
            self._tasks.close(seconds)
        notifier = self._task_notifiers.pop(os.getpid(), None)
        if notifier is not None:
            notifier.close()
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()
        if self._ledger is not None:
            self._ledger.engine.dispose()

    @property
    def _launches(self) -> bool:
        return self.settings.submit == "runner" and not self._submitter.is_paused()

    def _launch(self, jobs: Sequence[JobRequest]) -> None:
        if any(job.runner == LANE_RUNNER or needs_measurements(job) for job in jobs):
            self._notify()
        # Sync launches jobs that aren't due yet, and those whose size depends on what was measured. A later run is due
        # from its beginning. With a unique_key, the row may be of an earlier dispatch: it may have started, be
        # submitted, or even belong to another runner. Then there is nothing to do here.
        self._submitter.submit(
            job
            for job in jobs
            if (job.runner, job.state, job.attempt) == (NAME, JobState.WAITING, 0)
            and job.submitted_at is None
            and (job.run_after is None or job.run > 1)
            and not needs_measurements(job)
        )

    def _read_again(self, job: JobRequest) -> JobRequest:
        return job  # it is launched in the background, so nothing has changed yet

    def _submit(self, job: JobRequest) -> bool:
        """Try once, and return whether the API server was called. Raise only for failures that affect every job."""
        try:
            with _gate.inside():
                return self._try(job)
        finally:
            if self._submitter.closed:  # meanwhile: nobody else closes the connection that this thread used
                self.ledger.engine.dispose()

    def _try(self, job: JobRequest) -> bool:
        self._client()  # first, since it may take long to create
        try:
            with self._reading() as connection:
                # The row must be committed. It may have been launched, cancelled or ended while it waited.
                if not syncing.may_launch(connection, job):
                    return False
        except SQLAlchemyError as error:
            logger.info("job %d is left to sync: %s", job.id, type(error).__name__)
            return False
        if self._create(job):
            self._record(job)
        return True

    def _create(self, job: JobRequest) -> bool:
        client = self._client()
        from spoke_jobs.shared.api_errors import ApiError, Conflict, Invalid

        try:
            body = spokejob(job, client.namespace)
        except ValueError as error:
            logger.warning("job %d can't be a SpokeJob (%s); sync ends it", job.id, type(error).__name__)
            return False
        try:
            client.create(body)
        except ApiError as error:
            if not isinstance(error, Conflict | Invalid):
                raise
            # The name is taken, by this job or another one, or the API server refuses the object. Sync finds out which.
            logger.info("job %d is left to sync: %s", job.id, error.reason)
            return False
        return True

    def _record(self, job: JobRequest) -> None:
        try:
            with self.ledger.engine.begin() as connection:
                # Sync records the same soon, so don't wait for the disk or for a lock.
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '500ms'")
                syncing.record_submitted(connection, job)
        except SQLAlchemyError as error:  # not a failure of the API server: the circuit breaker stays closed
            logger.warning("job %d is launched, but not recorded as submitted: %s", job.id, type(error).__name__)

    def _reading(self) -> Connection:
        return self.ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT")  # one round trip, not three

    def _client(self) -> SpokeJobClient:
        with _gate.importing:
            from spoke_jobs.cluster.cluster_client import SpokeJobClient, Timeouts

        # Credentials may come from a program. It runs once, and only the threads that need the client wait for it.
        with self._connecting:
            client = self._clients.get(os.getpid())
            if client is None:
                timeouts = Timeouts(connect=1.0, read=3.0)
                client = SpokeJobClient.connect(kube_environment.namespace(self.settings.namespace), timeouts)
                self._clients[os.getpid()] = client
        return client

    def _dispatcher(self) -> TaskDispatcher:
        self._reset_if_forked()
        if self._tasks is None:
            if missing := self.missing_task_settings():
                raise ConfigurationError(f"tasks can't be dispatched; set {'; '.join(missing)}")
            from spoke_jobs.tasks.client.dispatcher import DispatcherOptions, TaskDispatcher, credentials_of

            with self._opening:
                if self._tasks is None:
                    given = self.settings
                    shown = credentials_of(given.shared_key, given.tasks_token_file)
                    options = DispatcherOptions(
                        buffer_tasks=given.tasks_buffer,
                        full_wait_seconds=given.tasks_full_wait_seconds,
                        ca_file=given.tasks_ca_file,
                    )
                    self._tasks = TaskDispatcher(given.tasks_url, shown, options=options)
        return self._tasks
