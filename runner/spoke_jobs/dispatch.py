"""The functions that an application calls to dispatch and read jobs, and to limit, pause and schedule them.

The process's runner is loaded once, by :func:`configure` or at the first call.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from spoke_jobs.contract.names import KEY_LIMIT
from spoke_jobs.contract.option_checks import expect, is_text
from spoke_jobs.errors import InvalidJobData
from spoke_jobs.job_options import AFTER_FAILED
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.limits.job_limit import KEEP, Keep, Rate, changed_bounds, parse_scope
from spoke_jobs.loader import load_runner
from spoke_jobs.middleware.hook_calls import HookCalls, around, around_async
from spoke_jobs.middleware.hooks import DISPATCH, DispatchCall
from spoke_jobs.model import JobData, JobRequest
from spoke_jobs.registry import Registry
from spoke_jobs.runners.runner import Runner, adapted
from spoke_jobs.schedules.timing import Cron, Every
from spoke_jobs.settings import Settings
from spoke_jobs.shared.validation_text import an
from spoke_jobs.type_names import TypeName

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

_BATCH_NAME = expect(is_text(1, KEY_LIMIT), f"a string of 1 to {KEY_LIMIT} characters")
_lock = threading.Lock()
_runner: Runner | None = None
_kept: Runner | None = None
"""The runner of the innermost :func:`use_runner` block. :func:`configure` without a runner leaves it in place."""


def configure(
    runner: Runner | None = None, *, settings: Settings | None = None, registry: Registry | None = None
) -> Runner:
    """Load the process's runner and return it. Call this at start-up, so that a process that can't dispatch fails then.

    :param runner: the runner to use, in tests for example; by default the one that ``JOB_RUNNER`` names.

    :raises ConfigurationError: naming each missing setting, or why the runner can't be loaded.
    """
    global _runner
    with _lock:
        if runner is None and _kept is not None:
            _runner = _kept
            return _runner
        _runner = load_runner(settings, registry) if runner is None else adapted(runner, "what configure() was given")
        _runner.start()
        return _runner


@contextmanager
def use_runner(runner: Runner) -> Iterator[Runner]:
    """Use ``runner`` within the block, and the earlier runner (or none) after it. For tests.

    Within the block, :func:`configure` without a runner keeps this one, since an application that a test starts may
    call it.
    """
    global _runner, _kept
    with _lock:
        earlier = _runner, _kept
        _runner = _kept = adapted(runner, "what use_runner() was given")
    try:
        yield runner
    finally:
        with _lock:
            _runner, _kept = earlier


def close() -> None:
    """Close the process's runner, if there is one. The runner first delivers or runs the tasks that it has in memory.

    The counterpart of :func:`configure`, for a process that continues, or that ends without running exit handlers.
    """
    global _runner
    with _lock:
        runner, _runner = _runner, None
    if runner is not None:
        runner.close()


def current_runner() -> Runner:
    """Return the process's runner; load it from the environment if :func:`configure` was not called."""
    global _runner
    if _runner is None:
        with _lock:
            if _runner is None:
                _runner = load_runner()
    return _runner


def dispatch_job(job_data: JobData, *, session: Session | None = None) -> JobRequest:
    """Record a job, which runs after the record is committed.

    :param session: write the record in this session's transaction. If the transaction is rolled back, there is no job.
    :returns: the row as it is now.
    :raises UnknownName, InvalidPayload, InvalidJobData: before anything is written.
    """
    runner = current_runner()
    call = DispatchCall((job_data,))
    with around(HookCalls(runner.middleware, DISPATCH, call)):
        job = runner.dispatch_job(job_data, session=session)
        call.rows = (job,)
    return job


async def adispatch_job(job_data: JobData, *, session: AsyncSession | None = None) -> JobRequest:
    """:func:`dispatch_job` for callers on an event loop."""
    runner = current_runner()
    call = DispatchCall((job_data,))
    async with around_async(HookCalls(runner.middleware, DISPATCH, call)):
        job = await runner.adispatch_job(job_data, session=session)
        call.rows = (job,)
    return job


def dispatch_jobs(jobs: Sequence[JobData], *, session: Session | None = None) -> Sequence[JobRequest]:
    """:func:`dispatch_job` for many jobs: all are checked before one is written, and they are written together.

    :returns: the rows, in the order given.
    """
    runner = current_runner()
    given = tuple(jobs)  # the hooks must not use up an iterator
    call = DispatchCall(given)
    with around(HookCalls(runner.middleware, DISPATCH, call)):
        rows = runner.dispatch_jobs(given, session=session)
        call.rows = tuple(rows)
    return rows


async def adispatch_jobs(jobs: Sequence[JobData], *, session: AsyncSession | None = None) -> Sequence[JobRequest]:
    """:func:`dispatch_jobs` for callers on an event loop."""
    runner = current_runner()
    given = tuple(jobs)
    call = DispatchCall(given)
    async with around_async(HookCalls(runner.middleware, DISPATCH, call)):
        rows = await runner.adispatch_jobs(given, session=session)
        call.rows = tuple(rows)
    return rows


def _in_batch(job_data: JobData, batch_id: int) -> JobData:
    if job_data.batch_id not in (None, batch_id):
        raise InvalidJobData(
            f"the dispatch of {job_data.job_type!r}: batch_id is {job_data.batch_id}, in the block of the batch "
            f"{batch_id}: leave it out, or call dispatch_job() instead of the block's"
        )
    return replace(job_data, batch_id=batch_id)


class OpenBatch:
    """A batch that takes jobs: what :func:`batch` gives to its block."""

    def __init__(self, row: Batch, session: Session | None) -> None:
        self.id = row.id
        """For ``batch_id`` of a dispatch, and for `spoke-jobs batches show`."""
        self._session = session

    def dispatch_job(self, job_data: JobData) -> JobRequest:
        """Dispatch a job in the batch, in the batch's session if there is one."""
        return dispatch_job(_in_batch(job_data, self.id), session=self._session)

    def dispatch_jobs(self, jobs: Sequence[JobData]) -> Sequence[JobRequest]:
        """Dispatch many jobs in the batch."""
        return dispatch_jobs([_in_batch(job_data, self.id) for job_data in jobs], session=self._session)


class AsyncOpenBatch:
    """:class:`OpenBatch` for callers on an event loop: what :func:`abatch` gives to its block."""

    def __init__(self, row: Batch, session: AsyncSession | None) -> None:
        self.id = row.id
        """For ``batch_id`` of a dispatch, and for `spoke-jobs batches show`."""
        self._session = session

    async def adispatch_job(self, job_data: JobData) -> JobRequest:
        """Dispatch a job in the batch, in the batch's session if there is one."""
        return await adispatch_job(_in_batch(job_data, self.id), session=self._session)

    async def adispatch_jobs(self, jobs: Sequence[JobData]) -> Sequence[JobRequest]:
        """Dispatch many jobs in the batch."""
        in_batch = [_in_batch(job_data, self.id) for job_data in jobs]
        return await adispatch_jobs(in_batch, session=self._session)


@contextmanager
def batch(
    name: str, then: JobData | None = None, on_failed: str = "fail", *, session: Session | None = None
) -> Iterator[OpenBatch]:
    """Dispatch jobs together. The batch is closed at the end of the block, unless it raises.

    :param name: what the batch is for, for people.
    :param then: a job that is dispatched with the batch, and starts once all jobs of the batch have ended.
    :param on_failed: what follows if one of them fails: ``fail`` fails that job with ``DependencyFailed``, ``run`` runs
        it.
    :param session: write all in this session's transaction.
    :raises InvalidJobData: if ``on_failed`` is neither, ``then`` is no JobData, or the name can't be stored.
    """
    _check_batch(name, then, on_failed)
    runner = current_runner()
    opened = OpenBatch(runner.open_batch(name, then, on_failed, session=session), session)
    yield opened
    runner.close_batch(opened.id, session=session)


@asynccontextmanager
async def abatch(
    name: str, then: JobData | None = None, on_failed: str = "fail", *, session: AsyncSession | None = None
) -> AsyncIterator[AsyncOpenBatch]:
    """:func:`batch` for callers on an event loop: ``async with abatch(...) as march``."""
    _check_batch(name, then, on_failed)
    runner = current_runner()
    opened = AsyncOpenBatch(await runner.aopen_batch(name, then, on_failed, session=session), session)
    yield opened
    await runner.aclose_batch(opened.id, session=session)


def _check_batch(name: str, then: JobData | None, on_failed: str) -> None:
    if problem := _BATCH_NAME(name):
        raise InvalidJobData(f"the name of a batch{problem}")
    if not isinstance(then, JobData | None):
        raise InvalidJobData(f"the batch {name!r}: then is {then!r}, where JobData is expected")
    if on_failed not in AFTER_FAILED:
        raise InvalidJobData(f"the batch {name!r}: on_failed is {on_failed!r}, where 'fail' or 'run' is expected")


def dispatch_task(name: TypeName, payload: Any = None, *, session: Session | None = None) -> None:
    """Dispatch a task, so that it runs soon. The runner decides in which process.

    :param session: run the task after this session's transaction is committed. Under ``kubernetes`` the task is
        then a row, which survives any process. Under ``legacy`` it is in this process's memory until it has run.
    :raises UnknownName, InvalidPayload: before anything is written or sent.
    """
    runner = current_runner()
    with around(HookCalls(runner.middleware, DISPATCH, DispatchCall(task=name, payload=payload))):
        runner.dispatch_task(name, payload, session=session)


async def adispatch_task(name: TypeName, payload: Any = None, *, session: AsyncSession | None = None) -> None:
    """:func:`dispatch_task` for callers on an event loop."""
    runner = current_runner()
    async with around_async(HookCalls(runner.middleware, DISPATCH, DispatchCall(task=name, payload=payload))):
        await runner.adispatch_task(name, payload, session=session)


def get_job(job_id: int | UUID, *, session: Session | None = None) -> JobRequest | None:
    """Return the job with that id as it is now, or None if there is none (any more).

    :param job_id: the row's ``id``, or its ``uid``.
    :param session: read in this session's transaction, which also sees the jobs that were dispatched in it.
    :raises TypeError: if ``job_id`` is neither.
    :raises ConfigurationError: if a runner of your own can't read jobs.
    """
    _check_job_id(job_id)
    return current_runner().get_job(job_id, session=session)


async def aget_job(job_id: int | UUID, *, session: AsyncSession | None = None) -> JobRequest | None:
    """:func:`get_job` for callers on an event loop."""
    _check_job_id(job_id)
    return await current_runner().aget_job(job_id, session=session)


def retry_job(job_id: int | UUID, *, clear_checkpoints: bool = False) -> JobRequest | None:
    """Start a failed job again, with full retry budgets, and return its row; None if there is none (any more).

    A job in another state stays as it is.

    :param clear_checkpoints: forget what its attempts have saved, so that it starts from the beginning.
    :raises UniquenessConflict: if another unfinished job has its unique key.
    :raises TypeError: if ``job_id`` is neither an ``id`` nor a ``uid``.
    :raises ConfigurationError: if a runner of your own can't retry jobs.
    """
    _check_job_id(job_id)
    return current_runner().retry_job(job_id, clear_checkpoints=clear_checkpoints)


def run_job_now(job_id: int | UUID, *, by: str = "") -> JobRequest | None:
    """Make a job due now whose ``run_after`` is to come, or that waits before its next attempt.

    :param by: who does this, for ``spoke-jobs events``; by default, the process's user or service account.
    :returns: its row; None if there is none (any more).
    :raises ChangeRefused: if the job runs, is blocked, is due already or has ended, or if it has a SpokeJob.
    :raises TypeError: if ``job_id`` is neither an ``id`` nor a ``uid``.
    :raises ConfigurationError: if a runner of your own can't do this.
    """
    _check_job_id(job_id)
    return current_runner().run_job_now(job_id, actor_name(by))


def set_job_priority(job_id: int | UUID, priority: int, *, by: str = "") -> JobRequest | None:
    """Change the priority of a job that waits or is blocked.

    :param priority: as in a dispatch.
    :param by: who does this, likewise.
    :returns: its row; None if there is none (any more).
    :raises ChangeRefused: if the job runs or has ended.
    :raises InvalidJobData: if no job can have the priority.
    :raises TypeError: if ``job_id`` is neither an ``id`` nor a ``uid``.
    :raises ConfigurationError: if a runner of your own can't do this.
    """
    _check_job_id(job_id)
    return current_runner().set_job_priority(job_id, priority, actor_name(by))


def suspend_job(job_id: int | UUID, reason: str = "", *, by: str = "") -> JobRequest | None:
    """Let no attempt of a job start until :func:`resume_job`. A running attempt goes on.

    :param reason: shown by ``spoke-jobs why``.
    :param by: who does this, likewise.
    :returns: its row; None if there is none (any more).
    :raises ChangeRefused: if the job has ended.
    :raises InvalidJobData: if the reason has more than 200 characters.
    :raises TypeError: if ``job_id`` is neither an ``id`` nor a ``uid``.
    :raises ConfigurationError: if a runner of your own can't do this.
    """
    _check_job_id(job_id)
    return current_runner().suspend_job(job_id, reason, actor_name(by))


def resume_job(job_id: int | UUID, *, by: str = "") -> JobRequest | None:
    """Let attempts of a suspended job start again.

    :param by: who does this, likewise.
    :returns: its row; None if there is none (any more).
    :raises ChangeRefused: if the job is not suspended.
    :raises TypeError: if ``job_id`` is neither an ``id`` nor a ``uid``.
    :raises ConfigurationError: if a runner of your own can't do this.
    """
    _check_job_id(job_id)
    return current_runner().resume_job(job_id, actor_name(by))


def pause(scope: str, reason: str, *, until: datetime | None = None, by: str = "") -> None:
    """Let no attempt of the scope start. Running attempts continue.

    :param scope: ``all``, ``type:export``, ``queue:slow``, ``organization:7``, ...: see docs/how-to/limits.md.
    :param reason: shown on each job that it holds back.
    :param until: when the pause ends by itself.
    :param by: who pauses it, for ``spoke-jobs why`` and ``spoke-jobs events``; by default, the process's user or
        service account.
    :raises InvalidLimit: if the scope is unknown, or a value can't be used.
    """
    current_runner().limits.pause(parse_scope(scope), reason, actor_name(by), until)


def resume(scope: str, *, by: str = "") -> bool:
    """End the pause of a scope. Return False if it was not paused."""
    return current_runner().limits.resume(parse_scope(scope), actor_name(by))


def set_limit(
    scope: str,
    *,
    max_running: int | Keep | None = KEEP,
    rate: Rate | str | Keep | None = KEEP,
    burst: int | Keep = KEEP,
    by: str = "",
) -> None:
    """Change a limit at run time. Workers obey it at once, and a deploy does not undo it.

    :param max_running: the most attempts of the scope at a time; None for any number.
    :param rate: how many attempts may start: ``5/s``, ``100/min``, ``10/30s``; None for any number.
    :param burst: how many may start at once after a quiet time.
    :param by: who changes it, for ``spoke-jobs events``; by default, the process's user or service account.
    :raises InvalidLimit: if the scope is unknown, or a value can't be honored.
    """
    current_runner().limits.set(
        parse_scope(scope), lambda old: changed_bounds(old, max_running, rate, burst), actor_name(by)
    )


def reset_limit(scope: str, *, by: str = "") -> None:
    """Return a limit to what the application's code declares. A pause stays."""
    current_runner().limits.reset(parse_scope(scope), actor_name(by))


def _check_job_id(job_id: object) -> None:
    if isinstance(job_id, bool) or not isinstance(job_id, (int, UUID)):
        raise TypeError(
            f"a job is read by its id (a whole number, job.id) or its uid (a UUID, job.uid), not by {job_id!r}, "
            f"{an(type(job_id).__name__)}"
        )


def put_schedule(
    name: str,
    job: TypeName,
    timing: Cron | Every,
    *,
    payload: Any = None,
    replace: bool = False,
    by: str = "",
    session: Session | None = None,
    **options: Any,
) -> None:
    """Make a schedule at run time: dispatch ``job`` whenever an occurrence of ``timing`` is due.

    :param payload: as a dispatch takes it. If it is left out, a payload model gets its defaults.
    :param replace: change the schedule if there is one of that name.
    :param by: who does this, for ``spoke-jobs events``; by default, the process's user or service account.
    :param session: write it in this session's transaction.
    :param options: options of a dispatch, except those about one dispatch: docs/how-to/schedules.md.
    :raises RegistrationError: if the job, the payload or an option can't be used.
    :raises InvalidSchedule: if there is one of that name and ``replace`` is false, or if code declares it.
    """
    by = actor_name(by)
    current_runner().schedules.put(name, job, timing, payload, options, replace=replace, by=by, session=session)


def remove_schedule(name: str, *, by: str = "", session: Session | None = None) -> bool:
    """Remove a schedule. Its jobs stay. Return False if there is none.

    :raises InvalidSchedule: if code that runs declares it.
    """
    return current_runner().schedules.remove(name, actor_name(by), session)


def pause_schedule(name: str, *, by: str = "", session: Session | None = None) -> bool:
    """Let no due time dispatch a job until :func:`resume_schedule`. Return False if there is no such schedule."""
    return current_runner().schedules.pause(name, actor_name(by), session)


def resume_schedule(name: str, *, by: str = "", session: Session | None = None) -> bool:
    """Go on with the first due time after now. Return False if there is no such schedule."""
    return current_runner().schedules.resume(name, actor_name(by), session)
