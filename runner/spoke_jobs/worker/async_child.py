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
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from spoke_jobs import dispatch
from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.errors import Superseded
from spoke_jobs.execution.attempt import attempt_fields, describe, failure_of, load_job, log_end, log_start
from spoke_jobs.execution.context import JobContext
from spoke_jobs.execution.lease import StopReason, seconds_until_next_record
from spoke_jobs.execution.output_lines import with_output
from spoke_jobs.ledger.engine import create_engine, is_away
from spoke_jobs.ledger.port import Ledger, SessionFactory
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, Failure, Progress, Pulse
from spoke_jobs.payloads import encode_result
from spoke_jobs.registry import Definition, Registry, load_app
from spoke_jobs.settings import load_settings
from spoke_jobs.shared import garbage_collection
from spoke_jobs.shared.log_setup import LogFields
from spoke_jobs.shared.outage_log import OutageLog
from spoke_jobs.worker.child_messages import Order, Report, Stop, encode, read_message
from spoke_jobs.worker.child_pool import PATIENCE_SECONDS
from spoke_jobs.worker.job_loop import ATTEMPT, JobTasks, run
from spoke_jobs.worker.lease_group import LeaseGroup
from spoke_jobs.worker.loop_output import LoopOutput
from spoke_jobs.worker.shared_state import SharedState
from spoke_jobs.worker.signal_state import ignore_timers
from spoke_jobs.worker.success_recorder import Recorder
from spoke_jobs.worker.tracked_coroutine import JobExit

logger = logging.getLogger(__name__)

_LINE_LIMIT = 2**24
"""The longest order in bytes; asyncio's default limit is 64 kB."""
_THREADS = 4
_DELIVERY_SECONDS = 4.0
"""Shorter than the time that a stopping supervisor waits for its children."""
_Returned = TypeVar("_Returned")


@dataclass(eq=False)
class _Running:
    claim: Claim
    cancel: threading.Event = field(default_factory=threading.Event)
    task: asyncio.Task[Any] | None = None
    stop_reason: StopReason | None = None
    """None unless the attempt was stopped."""
    failure: Failure | None = None
    """How it failed, once that is known."""


class AsyncOrderLoop:
    """Runs each order when it arrives, and reports its end."""

    def __init__(
        self,
        ledger: Ledger,
        registry: Registry,
        sessions: SessionFactory,
        slots: int,
        shared: SharedState,
        output: LoopOutput,
    ) -> None:
        self._shared = shared
        self._output = output
        # SQLite has one write lock, and the next job on the loop may need it: end the transaction first.
        self._commit_at_once = isinstance(ledger, SqlLedger) and ledger.engine.dialect.name == "sqlite"
        self._stopping = False
        self._ledger = ledger
        self._registry = registry
        self._sessions = sessions
        self._threads = ThreadPoolExecutor(_THREADS, "spoke-ledger")
        self._room = asyncio.Semaphore(slots)
        self._running: dict[UUID, _Running] = {}
        self.tasks = JobTasks(shared)
        self._recorder = Recorder(ledger)
        self._leases = LeaseGroup(self._heartbeats, self._give_up, shared.lease_ends)

    def _heartbeats(self, progress: Mapping[UUID, Progress | None], lease_seconds: float) -> Mapping[UUID, Pulse]:
        self._shared.heartbeat_unanswered(True)
        pulses = self._ledger.heartbeats(progress, lease_seconds)
        self._shared.heartbeat_unanswered(False)
        return pulses

    async def run(self, connection: socket.socket) -> None:
        """Run orders until the supervisor has closed the connection and all attempts have ended."""
        self._loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection(sock=connection, limit=_LINE_LIMIT)
        writer.write(encode(Report()))
        tasks: set[asyncio.Task[None]] = set()
        while (message := await read_message(reader)) is not None:
            if isinstance(message, Order):
                task = self.tasks.make(self._loop, self._execute(message, writer))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            elif isinstance(message, Stop):
                self._stop(message)
        if tasks:
            await asyncio.wait(tasks)
        await self._deliver()
        writer.close()

    async def _deliver(self) -> None:
        """Deliver the dispatched tasks that are still in memory."""
        try:
            await asyncio.wait_for(self._in_thread(dispatch.close), _DELIVERY_SECONDS)
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
        self._stop_attempt(message.token, StopReason.TIMEOUT if message.overtime else StopReason.CANCELLED)

    def _stop_attempt(self, token: UUID, reason: StopReason) -> None:
        running = self._running.get(token)
        if running is None or running.stop_reason is not None:
            return
        running.stop_reason = reason
        running.cancel.set()
        logger.error("job %d, attempt %d: stopped, %s", running.claim.job.id, running.claim.number, reason)
        if running.task is not None:
            self.tasks.stop(token, running.task)

    async def _execute(self, order: Order, writer: asyncio.StreamWriter) -> None:
        code, call_soon = ExitCode.SUPERSEDED, self._loop.call_soon_threadsafe
        self._shared.add(order.token)
        if order.asked_at is None or time.monotonic() < order.asked_at + order.lease_seconds / 2:
            if not self._running:
                self._shared.heartbeat_unanswered(False)  # of earlier attempts
            self._leases.add(
                order.token,
                order.lease_seconds,
                order.asked_at,
                lambda reason: (call_soon(self._stop_attempt, order.token, reason), None)[1],
            )
            try:
                code = await self._run(order)
            except DBAPIError as error:
                code = ExitCode.DATABASE_AWAY if is_away(error) else ExitCode.SUPERSEDED
                logger.error("job %d: could not record its end (%s)", order.job_id, type(error.orig).__name__)  # noqa: TRY400
            except Exception:
                logger.exception("job %d: could not record its end; its lease will lapse", order.job_id)
            finally:
                self._leases.remove(order.token)
        else:  # the event loop or the worker was blocked, and too little of the lease is left
            await self._release(order)
        self._shared.remove(order.token)  # the supervisor ignores the report of an attempt that is listed
        with contextlib.suppress(ConnectionError):
            writer.write(encode(Report(code, token=order.token)))
            await writer.drain()

    async def _run(self, order: Order) -> ExitCode:
        job = order.job or await self._in_thread(self._ledger.get, order.job_id)
        if job is None:
            return ExitCode.SUPERSEDED
        claim = Claim(job, order.number, order.token, order.lease_seconds, order.asked_at)
        running = self._running[order.token] = _Running(claim)
        try:
            # If no slot becomes free soon, release the order, so that another worker can claim the job.
            await asyncio.wait_for(self._room.acquire(), PATIENCE_SECONDS)
        except TimeoutError:
            await self._release(order)
            return ExitCode.SUPERSEDED
        else:
            try:
                held = self._shared.outdated(order.asked_at) and await self._in_thread(self._ledger.limits.holds, job)
                if held or self._stopping or running.stop_reason is not None:
                    await self._release(order)
                    return ExitCode.SUPERSEDED
                with LogFields(**attempt_fields(claim)):
                    return await self._logged(running)
            finally:
                self._room.release()
        finally:
            del self._running[order.token]

    async def _release(self, order: Order) -> None:
        """Release the claim of an attempt that was not started. If its cancellation was requested, the job ends."""
        try:
            await self._in_thread(self._ledger.release, order.token)
        except DBAPIError as error:
            logger.warning("job %d: could not release its claim (%s)", order.job_id, type(error).__name__)

    async def _in_thread(self, function: Callable[..., _Returned], *arguments: Any) -> _Returned:
        """Run a blocking database call in a thread pool that jobs' `asyncio.to_thread` calls cannot exhaust."""
        return await self._loop.run_in_executor(self._threads, function, *arguments)

    async def _logged(self, running: _Running) -> ExitCode:
        claim, started = running.claim, time.monotonic()
        log_start(claim)
        with self._output.of(claim.job.id, claim.token):
            code = await self._attempt(running)
            seconds, tail = time.monotonic() - started, self._output.tail(claim.token)
            if tail and running.failure is None and seconds >= self._output.kept_after:
                with contextlib.suppress(DBAPIError):  # the success is recorded
                    await self._in_thread(partial(self._ledger.keep_output, claim.token, tail, ended=True))
        log_end(claim, code, running.failure, seconds)
        return code

    async def _attempt(self, running: _Running) -> ExitCode:
        claim, job = running.claim, running.claim.job
        loaded = load_job(claim, self._registry)
        if isinstance(loaded, Failure):
            return await self._failed(running, loaded)
        definition, payload = loaded
        limit = job.options.timeout_seconds
        context = JobContext(
            claim,
            self._ledger,
            self._sessions,
            cancel=running.cancel,
            report=lambda progress: self._leases.report(claim.token, progress),
            ending=self._ending(claim.token),
            run_until=None if limit is None else time.monotonic() + limit,
        )
        failure = None
        try:
            running.task = self.tasks.begin(
                self._loop, claim.token, _call(definition, context, payload, self._commit_at_once)
            )
            timer = None
            if limit is not None:
                timer = self._loop.call_later(limit, self._stop_attempt, claim.token, StopReason.TIMEOUT)
            try:
                result, left = await running.task
            finally:
                if timer is not None:
                    timer.cancel()
                running.task = None
            if left is not None:
                failure = self._describe(running, left)
            else:
                await self._succeed(running, context, result)
        except (Exception, asyncio.CancelledError) as error:
            failure = self._describe(running, error)
        finally:
            self.tasks.end(claim.token)
            with contextlib.suppress(Exception):
                if context.has_session:
                    await self._in_thread(context.close)
        if failure is None or context.completed:
            return ExitCode.DONE
        return await self._failed(running, failure)

    def _describe(self, running: _Running, error: BaseException) -> Failure:
        if running.stop_reason in (StopReason.CLAIM_LOST, StopReason.LEASE_EXPIRED):
            return Failure(Cause.SUPERSEDED, Cause.SUPERSEDED.meaning)
        if running.stop_reason is StopReason.DATABASE_AWAY:
            return Failure(Cause.DATABASE_UNREACHABLE, Cause.DATABASE_UNREACHABLE.meaning)
        if running.stop_reason is not None and (stopped := failure_of(running.stop_reason)) is not None:
            if running.stop_reason is StopReason.TIMEOUT:  # the traceback shows where the job was
                stopped = replace(stopped, output_tail="".join(traceback.format_exception(error)))
            return stopped  # whatever the exception is: the job may have replaced the CancelledError
        if isinstance(error, asyncio.CancelledError):
            if self.tasks.is_bystander(running.claim.token):
                return Failure(Cause.BYSTANDER, "another job cancelled a part of this one", retry_after_seconds=0.0)
            return Failure(Cause.JOB_ERROR, "CancelledError: the job cancelled itself", "asyncio.CancelledError")
        return describe(error, running.claim.job.options.retry, cancelled=running.cancel.is_set())

    async def _succeed(self, running: _Running, context: JobContext, result: Any) -> None:
        if context.completed:
            return
        if context.has_session:  # commits the session's open writes together with the success
            await self._in_thread(context.finish, result)
            return
        progress = self._leases.ending(running.claim.token)
        encoded = encode_result(result)
        recorded: asyncio.Future[bool | Exception] = self._loop.create_future()

        def done(answer: bool | Exception) -> None:
            self._loop.call_soon_threadsafe(recorded.set_result, answer)

        self._recorder.record(running.claim.token, encoded, progress, running.claim.lease_seconds, done)
        answer = await recorded
        if isinstance(answer, Exception):
            raise answer
        if not answer:
            raise Superseded("another process holds this attempt's job now, or the job has ended")
        context.completed = True

    async def _failed(self, running: _Running, failure: Failure) -> ExitCode:
        claim = running.claim
        tail = with_output(failure.output_tail, self._output.tail(claim.token))
        running.failure = failure = replace(failure, output_tail=tail)
        if failure.cause == Cause.SUPERSEDED:
            return ExitCode.SUPERSEDED
        if running.stop_reason is StopReason.DATABASE_AWAY:
            return ExitCode.DATABASE_AWAY
        progress = self._leases.ending(claim.token)
        if progress is not None:
            with contextlib.suppress(DBAPIError):
                await self._in_thread(self._ledger.heartbeat, claim.token, claim.lease_seconds, progress)
        outage = OutageLog(logger, "the database", began=f"job {claim.job.id}: could not record the failure")
        give_up = time.monotonic() + claim.lease_seconds
        while True:
            try:
                held = await self._in_thread(partial(self._ledger.fail, claim.token, failure, decide=True))
            except DBAPIError as error:
                if time.monotonic() > give_up:
                    raise
                outage.failed(type(error.orig).__name__)
                await asyncio.sleep(seconds_until_next_record(claim.lease_seconds))
            else:
                return ExitCode.FAILED if held else ExitCode.SUPERSEDED

    def _ending(self, token: UUID) -> Any:
        @contextlib.contextmanager
        def ending() -> Any:
            progress = self._leases.ending(token)
            try:
                yield progress
            except BaseException:
                self._leases.going_on(token)
                raise

        return ending


async def _call(
    definition: Definition, context: JobContext, payload: Any, commit_at_once: bool
) -> tuple[Any, BaseException | None]:
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
        return None, error.exit if isinstance(error, JobExit) else error
    else:
        return result, None


def serve(connection: socket.socket, slots: int, shared: SharedState) -> None:
    """Run orders until the supervisor closes the connection."""
    settings = load_settings()
    engine = create_engine(settings.database)
    registry = load_app(settings.app)
    garbage_collection.resume()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the supervisor sends Stop, and kills this process if necessary
    ignore_timers()
    ledger = SqlLedger(engine, keeps_successes=settings.keeps_successes)
    output = LoopOutput(ATTEMPT.get, ledger.keep_output, settings.output_kept_after)
    orders = AsyncOrderLoop(ledger, registry, lambda: Session(engine), slots, shared, output)
    run(orders.run(connection), orders.tasks, shared)
    ledger.close_notifier()
