"""The value of the fixture ``spoke_jobs``: it shows the jobs and tasks that a test dispatched, and runs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from spoke_jobs.model import JobRequest, JobState
from spoke_jobs.payloads import decode_payload
from spoke_jobs.registry import Registry
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings
from spoke_jobs.testing.event_loop import OnTheLoop, TransparentRegistry
from spoke_jobs.testing.sessions import Sessions, plain_sessions
from spoke_jobs.type_names import TypeName, plain_name


@dataclass(frozen=True, slots=True)
class DispatchedJob:
    """A job as it is now."""

    type: str
    payload: Any
    """As the job's function takes it: an instance of its model, or plain JSON."""
    state: JobState
    result: Any
    """What the job returned, or gave to ``ctx.complete``."""
    cause: str
    """Why the job failed: ``JobError`` and so on; empty otherwise."""
    row: JobRequest
    """Everything else: queue, organization, options, progress."""


@dataclass(frozen=True, slots=True)
class DispatchedTask:
    """A task as it was dispatched."""

    name: str
    payload: Any
    """As the task's function takes it."""


class JobsFailed(AssertionError):
    """Jobs of a drain failed. The message has the traceback of each."""


_Named = TypeVar("_Named", DispatchedJob, DispatchedTask)


class SpokeJobs:
    """The fixture ``spoke_jobs``.

    A dispatch in a transaction that is open, or was rolled back, does not count. A session's commit counts, even if the
    session is joined to a transaction that the test never commits.
    """

    def __init__(self, registry: Registry, sessions: Sessions | None = None) -> None:
        self._registry = registry
        self.runner = MemoryRunner(Settings(), TransparentRegistry(registry), plain_sessions(sessions))
        """The process's runner during the test."""

    def __repr__(self) -> str:
        return f"<dispatched: {_names(self.jobs(), self.tasks())}>"

    def jobs(self, job_type: TypeName | None = None) -> list[DispatchedJob]:
        """Return the dispatched jobs, of one type or all, oldest first."""
        wanted = None if job_type is None else plain_name(job_type)
        return [self._job(row) for row in self.runner.jobs if wanted in (None, row.job_type)]

    def tasks(self, name: TypeName | None = None) -> list[DispatchedTask]:
        """Return the dispatched tasks, of one name or all, oldest first."""
        wanted = None if name is None else plain_name(name)
        return [
            DispatchedTask(
                task.name, decode_payload(task.name, self._registry.tasks.get(task.name).payload, task.payload)
            )
            for task in self.runner.tasks
            if wanted in (None, task.name)
        ]

    def job(self, job_type: TypeName) -> DispatchedJob:
        """Return the only job of that type.

        :raises AssertionError: if there is none, or more than one, naming what there is.
        """
        return self._only(self.jobs(job_type), f"job {plain_name(job_type)!r}")

    def task(self, name: TypeName) -> DispatchedTask:
        """Return the only task of that name.

        :raises AssertionError: if there is none, or more than one, naming what there is.
        """
        return self._only(self.tasks(name), f"task {plain_name(name)!r}")

    def drain(self, *, may_fail: bool = False) -> list[DispatchedJob]:
        """Run all jobs and tasks to their end, and those that they dispatch. Retries follow immediately.

        The exception of a task is raised once everything has run; those of several as an ``ExceptionGroup``.

        :param may_fail: do not raise for a job that fails for good; the test checks its ``state`` and ``cause``.
        :returns: all jobs, in their new states.
        :raises JobsFailed: if a job has failed for good.
        """
        before = self._failed()
        self.runner.drain()
        return self._outcome(before, may_fail)

    async def adrain(self, *, may_fail: bool = False) -> list[DispatchedJob]:
        """:meth:`drain` for tests on an event loop. Needs ``sqlalchemy[asyncio]``.

        ``async def`` jobs run on that loop, and ``ctx.session`` may use an ``AsyncConnection`` of it.
        """
        before = self._failed()
        await OnTheLoop().run(self.runner.drain)
        return self._outcome(before, may_fail)

    def _outcome(self, failed_before: set[int], may_fail: bool) -> list[DispatchedJob]:
        new = [job for job in self.runner.jobs if job.id in self._failed() - failed_before]
        if new and not may_fail:
            raise JobsFailed("\n\n".join(self._account(job) for job in new))
        return self.jobs()

    def _account(self, job: JobRequest) -> str:
        attempts = self.runner.ledger.attempts(job.id)
        tail = attempts[-1].output_tail.rstrip() if attempts else ""
        head = f"job {job.job_type!r} failed at attempt {job.attempt} ({job.cause})"
        return f"{head}:\n{tail}" if tail else f"{head}: {job.result_message}"

    def _failed(self) -> set[int]:
        return {job.id for job in self.runner.jobs if job.state is JobState.FAILED}

    def _job(self, row: JobRequest) -> DispatchedJob:
        payload = decode_payload(row.job_type, self._registry.jobs.get(row.job_type).payload, row.payload)
        return DispatchedJob(row.job_type, payload, row.state, row.result, row.cause, row)

    def _only(self, found: Sequence[_Named], what: str) -> _Named:
        if len(found) != 1:
            count = "no" if not found else str(len(found))
            raise AssertionError(f"{count} {what} was dispatched; there is: {_names(self.jobs(), self.tasks())}")
        return found[0]


def _names(jobs: Iterable[DispatchedJob], tasks: Iterable[DispatchedTask]) -> str:
    words = [f"job {job.type!r} ({job.state.value})" for job in jobs] + [f"task {task.name!r}" for task in tasks]
    return ", ".join(words) or "nothing"
