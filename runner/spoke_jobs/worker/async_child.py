"""A worker's child process for ``async def`` jobs: runs many orders concurrently on one event loop.

An attempt is stopped by cancelling its asyncio task. If it does not stop, or blocks the event loop, the process ends:
the supervisor kills it, or it exits by itself before a lease lapses. The shared state names the attempt whose code
runs. Only that attempt is charged, not the others of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from spoke_jobs import dispatch
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.errors import Superseded
from spoke_jobs.execution.attempt import AttemptEnd, AttemptServices, attempt, is_late
from spoke_jobs.execution.attempt_decisions import CancelledBy, Stopping, code_of_unrecorded
from spoke_jobs.execution.context import JobContext
from spoke_jobs.execution.lease import Lease, StopReason
from spoke_jobs.execution.lease_keeper import KeptLease, LeaseKeeper, Owner
from spoke_jobs.execution.run_sequence import CallResult
from spoke_jobs.execution.usage_meter import Meter
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.port import SessionFactory
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.middleware.hook_calls import close_all
from spoke_jobs.model import Claim, Failure
from spoke_jobs.payloads import encode_result
from spoke_jobs.registry import Definition, Registry, load_app
from spoke_jobs.settings import load_settings
from spoke_jobs.shared import garbage_collection
from spoke_jobs.shared.secret_file import Secret
from spoke_jobs.worker.child_messages import Order, Report, Stop, encode, read_message
from spoke_jobs.worker.child_pool import PATIENCE_SECONDS
from spoke_jobs.worker.job_loop import ATTEMPT, JobTasks, run
from spoke_jobs.worker.loop_output import LoopOutput
from spoke_jobs.worker.shared_state import SharedState
from spoke_jobs.worker.signal_state import ignore_timers
from spoke_jobs.worker.success_recorder import Recorder
from spoke_jobs.worker.tracked_coroutine import JobExit

logger = logging.getLogger(__name__)

_LINE_LIMIT = 2**24
"""The longest order in bytes; asyncio's default limit is 64 kB."""
_THREADS = 4
_LEDGER_THREADS = 2
"""The thread that renews leases, and the one that records successes."""
_DELIVERY_SECONDS = 4.0
"""Shorter than the time that a stopping supervisor waits for its children."""
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Common:
    """What the attempts of an event loop share."""

    services: AttemptServices
    threads: ThreadPoolExecutor
    """For database calls. Jobs' `asyncio.to_thread` calls cannot exhaust it."""
    tasks: JobTasks
    recorder: Recorder
    leases: LeaseKeeper
    output: LoopOutput
    commit_at_once: bool
    """Whether to end a job's transaction before the event loop runs another job."""

    async def in_thread(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Call a function that may block."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)


class _LoopDriver:
    """Runs an attempt on the event loop. It is stopped by cancelling its asyncio task."""

    measure: Meter

    def __init__(self, claim: Claim, common: _Common) -> None:
        self.claim = claim
        output = partial(common.output.tail, claim.token)
        self.services = replace(common.services, output=output, copy_output=output)
        self.cancel = threading.Event()
        self.stop_reason: StopReason | None = None
        """None unless the attempt was stopped."""
        self._common = common
        self._task: asyncio.Task[Any] | None = None

    def stop(self, reason: StopReason) -> None:
        """Stop the attempt. Only the first reason counts."""
        if self.stop_reason is not None:
            return
        self.stop_reason = reason
        self.cancel.set()
        logger.error("job %d, attempt %d: stopped, %s", self.claim.job.id, self.claim.number, reason)
        if self._task is not None:
            self._common.tasks.stop(self.claim.token, self._task)

    async def call(self, definition: Definition, context: Any, payload: Any) -> CallResult:
        """Call the job's function in an asyncio task of its own."""
        loop, token = asyncio.get_running_loop(), self.claim.token
        self._task = self._common.tasks.begin(
            loop, token, _call(definition, context, payload, self._common.commit_at_once)
        )
        limit = self.claim.job.options.timeout_seconds
        timer = None if limit is None else loop.call_later(limit, self.stop, StopReason.TIMEOUT)
        try:
            outcome: CallResult = await self._task
        except (Exception, asyncio.CancelledError) as error:
            return CallResult(error=error)
        finally:
            if timer is not None:
                timer.cancel()
            self._task = None
        return outcome

    async def blocking(self, function: Callable[[], _Result]) -> _Result:
        """Call a function that may block."""
        return await self._common.in_thread(function)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def keep_lease(self, claim: Claim, run_until: float | None) -> KeptLease:
        """Return the lease, which is kept since the order arrived. The loop's own timer enforces the timeout."""
        return KeptLease(self._common.leases, claim.token)

    def stopping(self, error: BaseException) -> Stopping:
        """Why the job may have ended early."""
        by_another = self._common.tasks.is_bystander(self.claim.token)
        cancelled_by = CancelledBy.ANOTHER_JOB if by_another else CancelledBy.ITSELF
        return Stopping(self.cancel.is_set(), reason=self.stop_reason, task_cancelled_by=cancelled_by)

    def job_ended(self) -> None:
        """The lease no longer matters: nothing of the job runs any more."""
        self._common.leases.end(self.claim.token)

    async def record_success(self, claim: Claim, context: JobContext, result: Any, lease: KeptLease) -> None:
        """Record the success together with those of other attempts."""
        encoded, progress = encode_result(result), lease.end()
        recorded: asyncio.Future[bool | Exception] = asyncio.get_running_loop().create_future()

        def done(answer: bool | Exception) -> None:
            if not recorded.cancelled():
                recorded.set_result(answer)

        self._common.recorder.record(claim.token, encoded, progress, self.measure(), claim.lease_seconds, done)
        answer = await recorded
        if isinstance(answer, Exception):
            raise answer
        if not answer:
            raise Superseded("another process holds this attempt's job now, or the job has ended")
        context.completed = True

    def code_of_recorded(self, failure: Failure) -> ExitCode:
        """The exit code of an attempt whose failure is recorded."""
        return ExitCode.FAILED


class AsyncOrderLoop:
    """Runs each order when it arrives, and reports its end."""

    def __init__(
        self,
        ledger: SqlLedger,
        registry: Registry,
        sessions: SessionFactory,
        slots: int,
        shared: SharedState,
        output: LoopOutput,
    ) -> None:
        self._shared = shared
        self._stopping = False
        self._ledger = ledger
        self._room = asyncio.Semaphore(slots)
        self._stops: dict[UUID, StopReason | None] = {}
        """The orders that have been read and not reported, and why to stop each, also before it runs."""
        self._running: dict[UUID, _LoopDriver] = {}
        self._reports: list[Report] = []
        """Those that are not sent yet."""
        self.tasks = JobTasks(shared)
        self._leases = LeaseKeeper(ledger.heartbeats, shared, self._give_up)
        self._common = _Common(
            AttemptServices(
                ledger,
                registry,
                sessions,
                decide=True,
                on_stop=lambda _reason: None,  # the keeper of all leases tells the driver
                output_kept_after=output.kept_after,
                observer=shared,
            ),
            ThreadPoolExecutor(_THREADS, "spoke-ledger"),
            self.tasks,
            Recorder(ledger, self._call_soon),
            self._leases,
            output,
            # SQLite has one write lock, and the next job on the loop may need it: end the transaction first.
            commit_at_once=ledger.engine.dialect.name == "sqlite",
        )
        self._leases.start()

    async def run(self, connection: socket.socket) -> None:
        """Run orders until the supervisor has closed the connection and all attempts have ended."""
        self._loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection(sock=connection, limit=_LINE_LIMIT)
        writer.write(encode(Report()))
        tasks: set[asyncio.Task[None]] = set()
        while (message := await read_message(reader)) is not None:
            if isinstance(message, Order):
                self._stops[message.token] = None
                task = self.tasks.make(self._loop, self._execute(message, writer))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            elif isinstance(message, Stop):
                self._stop(message)
        if tasks:
            await asyncio.wait(tasks)
        await self._deliver()
        self._send_reports(writer)
        writer.close()

    async def _deliver(self) -> None:
        """Deliver the dispatched tasks that are still in memory."""
        try:
            await asyncio.wait_for(self._common.in_thread(dispatch.close), _DELIVERY_SECONDS)
        except TimeoutError:
            logger.error("could not deliver all dispatched tasks within %g s", _DELIVERY_SECONDS)  # noqa: TRY400
        except Exception:
            logger.exception("could not deliver all dispatched tasks")

    def _give_up(self, token: UUID, reason: StopReason) -> None:
        self._shared.enter(token)  # the other attempts of this loop are not charged
        os._exit(ExitCode.DATABASE_AWAY if reason is StopReason.DATABASE_AWAY else ExitCode.SUPERSEDED)

    def _stop(self, message: Stop) -> None:
        if message.token is None:
            self._stopping = True
            for running in self._running.values():
                running.cancel.set()
            return
        self._stop_attempt(message.token, message.reason)

    def _call_soon(self, call: Callable[[], None]) -> None:
        """Call a function on the event loop, from another thread."""
        self._loop.call_soon_threadsafe(call)

    def _stop_soon(self, token: UUID, reason: StopReason) -> None:
        self._loop.call_soon_threadsafe(self._stop_attempt, token, reason)

    def _stop_attempt(self, token: UUID, reason: StopReason) -> None:
        if token in self._stops:
            self._stops[token] = self._stops[token] or reason
        if (running := self._running.get(token)) is not None:
            running.stop(reason)

    async def _execute(self, order: Order, writer: asyncio.StreamWriter) -> None:
        end = AttemptEnd(ExitCode.SUPERSEDED)
        self._shared.add(order.token)
        try:
            fresh = order.asked_at is None or time.monotonic() < order.asked_at + order.lease_seconds / 2
            if fresh and not is_late(order.job_id, order.start_by):
                if not self._running:
                    self._shared.heartbeat_unanswered(False)  # of earlier attempts
                lease = Lease.of(order.token, order.lease_seconds, order.asked_at, time.monotonic())
                self._leases.add(lease, Owner(partial(self._stop_soon, order.token)))
                end = await self._run(order)
            else:  # the event loop or the worker was blocked: too little of the lease is left, or the token is old
                end = AttemptEnd(ExitCode.NOT_STARTED)
        except DBAPIError as error:
            end = AttemptEnd(code_of_unrecorded(error))
            logger.error("job %d: could not record its end (%s)", order.job_id, type(error.orig).__name__)  # noqa: TRY400
        except Exception:
            logger.exception("job %d: could not record its end; its lease will lapse", order.job_id)
        finally:
            self._leases.remove(order.token)
            del self._stops[order.token]
        self._shared.remove(order.token)  # the supervisor ignores the report of an attempt that is listed
        # Attempts whose successes one statement has recorded end in the same turn of the loop. Their reports are sent
        # together, which wakes the supervisor once.
        if not self._reports:
            self._loop.call_soon(self._send_reports, writer)
        self._reports.append(Report(end.exit_code, token=order.token, trace_id=end.trace_id))

    def _send_reports(self, writer: asyncio.StreamWriter) -> None:
        reports, self._reports = self._reports, []
        writer.write(b"".join(map(encode, reports)))

    async def _run(self, order: Order) -> AttemptEnd:
        job = order.job or await self._common.in_thread(self._ledger.get, order.job_id)
        if job is None:
            return AttemptEnd(ExitCode.SUPERSEDED)
        claim = Claim(job, order.number, order.token, order.lease_seconds, order.asked_at)
        running = self._running[order.token] = _LoopDriver(claim, self._common)
        if (reason := self._stops[order.token]) is not None:  # of an order that was waiting to be run
            running.stop(reason)
        try:
            if not self._room.locked():
                await self._room.acquire()  # at once: waiting with a timeout takes a task of its own
            else:  # if no slot becomes free soon, release the order, so that another worker can claim the job
                await asyncio.wait_for(self._room.acquire(), PATIENCE_SECONDS)
        except TimeoutError:
            return AttemptEnd(ExitCode.NOT_STARTED)
        else:
            try:
                changed = self._shared.outdated(order.asked_at)
                held = changed and await self._common.in_thread(self._ledger.limits.holds, job)
                # The slot and the question may have taken long. What reading the payload took is the job's own affair.
                late = order.job is not None and is_late(order.job_id, order.start_by)
                if late or held or self._stopping or running.stop_reason is not None:
                    return AttemptEnd(ExitCode.NOT_STARTED)
                with self._common.output.of(job.id, order.token):
                    return await attempt(claim, running)
            finally:
                self.tasks.end(order.token)
                self._room.release()
        finally:
            del self._running[order.token]


async def _call(definition: Definition, context: JobContext, payload: Any, commit_at_once: bool) -> CallResult:
    """Return the job's result, or the SystemExit or KeyboardInterrupt that it raised.

    Raising one of these two here would end the event loop.

    :param commit_at_once: commit or roll back the job's session before the event loop runs another job.
    """
    try:
        result = await definition.function(context, payload)
        if commit_at_once and context.has_session:
            context.finish(result)
    except BaseException as error:
        if commit_at_once:
            with contextlib.suppress(Exception):
                context.close()
        if isinstance(error, (Exception, asyncio.CancelledError)):
            raise
        return CallResult(error=error.exit if isinstance(error, JobExit) else error)
    else:
        return CallResult(result)


def engine_for(database: Secret, slots: int) -> Engine:
    """Return an engine with a connection for each job's session, and enough for the ledger.

    Jobs keep their connections while they wait. With fewer connections, the next job that needs one would block the
    event loop, and heartbeats would wait as well.
    """
    return create_engine(database, pool_size=slots + _THREADS + _LEDGER_THREADS)


def serve(connection: socket.socket, slots: int, shared: SharedState) -> None:
    """Run orders until the supervisor closes the connection."""
    settings = load_settings()
    engine = engine_for(settings.database, slots)
    registry = load_app(settings.app)
    garbage_collection.resume()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the supervisor sends Stop, and kills this process if necessary
    ignore_timers()
    ledger = SqlLedger(engine, keeps_successes=settings.keeps_successes)
    output = LoopOutput(ATTEMPT.get, ledger.keep_output, settings.output_kept_after)
    orders = AsyncOrderLoop(ledger, registry, lambda: Session(engine), slots, shared, output)
    run(orders.run(connection), orders.tasks, shared)
    close_all(registry.middleware)
    ledger.close_notifier()
