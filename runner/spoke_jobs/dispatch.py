"""The functions that an application calls to dispatch and read jobs.

The process's runner is loaded once, by :func:`configure` or at the first call.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from spoke_jobs.loader import load_runner
from spoke_jobs.model import JobData, JobRequest
from spoke_jobs.registry import Registry
from spoke_jobs.runners.runner import Runner, adapted
from spoke_jobs.settings import Settings
from spoke_jobs.type_names import TypeName

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

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
    """Use ``runner`` within the block, and the earlier one (or none) after it. For tests.

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
    """Close the process's runner, if there is one. First it delivers or runs the tasks that it keeps in memory.

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
    """Record a job, so that it runs once the record is committed.

    :param session: write the record in this session's transaction. If that is rolled back, there is no job.
    :returns: the row as it is now.
    :raises UnknownName, InvalidPayload, InvalidJobData: before anything is written.
    """
    return current_runner().dispatch_job(job_data, session=session)


async def adispatch_job(job_data: JobData, *, session: AsyncSession | None = None) -> JobRequest:
    """:func:`dispatch_job` for callers on an event loop."""
    return await current_runner().adispatch_job(job_data, session=session)


def dispatch_jobs(jobs: Sequence[JobData], *, session: Session | None = None) -> Sequence[JobRequest]:
    """:func:`dispatch_job` for many jobs: all are checked before one is written, and they are written together.

    :returns: the rows, in the order given.
    """
    return current_runner().dispatch_jobs(jobs, session=session)


async def adispatch_jobs(jobs: Sequence[JobData], *, session: AsyncSession | None = None) -> Sequence[JobRequest]:
    """:func:`dispatch_jobs` for callers on an event loop."""
    return await current_runner().adispatch_jobs(jobs, session=session)


def dispatch_task(name: TypeName, payload: Any = None, *, session: Session | None = None) -> None:
    """Dispatch a task, so that it runs soon. The runner decides in which process.

    :param session: run it only once this session's transaction is committed. Under ``kubernetes`` the task is then a
        row, which survives any process. Under ``legacy`` it is in this process's memory until it has run.
    :raises UnknownName, InvalidPayload: before anything is written or sent.
    """
    current_runner().dispatch_task(name, payload, session=session)


async def adispatch_task(name: TypeName, payload: Any = None, *, session: AsyncSession | None = None) -> None:
    """:func:`dispatch_task` for callers on an event loop."""
    await current_runner().adispatch_task(name, payload, session=session)


def get_job(job_id: int, *, session: Session | None = None) -> JobRequest | None:
    """Return the job with that id as it is now, or None if there is none (any more).

    :param session: read in this session's transaction, which also sees jobs that it has dispatched itself.
    :raises ConfigurationError: if a runner of your own can't read jobs.
    """
    return current_runner().get_job(job_id, session=session)


async def aget_job(job_id: int, *, session: AsyncSession | None = None) -> JobRequest | None:
    """:func:`get_job` for callers on an event loop."""
    return await current_runner().aget_job(job_id, session=session)
