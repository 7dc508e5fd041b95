"""The base class of a runner: three methods that each runner has, and defaults for the rest.

A plain module or object that has the three functions is accepted, too. The loader adapts it (:func:`adapted`) and adds
the defaults.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import spoke_jobs.registry as registry_module
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.job_options import ALL_CAPABILITIES, Capability
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.middleware.hooks import Middleware
from spoke_jobs.model import JobData, JobRequest
from spoke_jobs.type_names import TypeName

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits
    from spoke_jobs.runners.runtime_schedules import RuntimeSchedules


class Runner(ABC):
    """What runs an application's jobs and tasks. Its methods may be called from any thread."""

    @abstractmethod
    def fully_configured(self) -> bool:
        """Return whether every setting that the runner needs is set. If not, the process refuses to start."""

    @abstractmethod
    def dispatch_job(self, job_data: JobData, *, session: Session | None = None) -> JobRequest:
        """Record a job, which runs after the record is committed.

        With ``session`` the record is written in the caller's transaction. If this is rolled back, there is no job.
        """

    @abstractmethod
    def dispatch_task(self, name: TypeName, payload: Any = None, *, session: Session | None = None) -> None:
        """Dispatch a task; with ``session``, after the caller's transaction is committed.

        Each runner documents whether the task is lost if this process then ends.
        """

    def missing_settings(self) -> list[str]:
        """Return the names of the missing environment variables, each with an explanation."""
        return []

    def missing_task_settings(self) -> list[str]:
        """Return the names of the missing variables that only dispatching tasks needs, each with an explanation."""
        return []

    @property
    def capabilities(self) -> Collection[Capability]:
        """The capabilities that the runner has. It refuses an option that needs a capability that it lacks."""
        return ALL_CAPABILITIES

    @property
    def middleware(self) -> Sequence[Middleware]:
        """The middleware whose hooks are called around dispatches. By default, that of the default registry."""
        return registry_module.default.middleware

    def start(self) -> None:  # noqa: B027  # most runners have nothing to start
        """Start the runner's threads in this process. :func:`spoke_jobs.configure` calls it."""

    def close(self) -> None:  # noqa: B027  # most runners have nothing to close
        """Deliver or run the tasks that are still in memory, and release connections and threads."""

    async def adispatch_job(self, job_data: JobData, *, session: AsyncSession | None = None) -> JobRequest:
        """Call :meth:`dispatch_job` without blocking the event loop."""
        if session is not None:
            return await session.run_sync(lambda inner: self.dispatch_job(job_data, session=inner))
        return await asyncio.to_thread(self.dispatch_job, job_data)

    def dispatch_jobs(self, jobs: Sequence[JobData], *, session: Session | None = None) -> Sequence[JobRequest]:
        """Record many jobs; by default one after the other. Return the rows in the order given."""
        return [self.dispatch_job(job_data, session=session) for job_data in jobs]

    async def adispatch_jobs(
        self, jobs: Sequence[JobData], *, session: AsyncSession | None = None
    ) -> Sequence[JobRequest]:
        """Record many jobs without blocking the event loop; by default one after the other."""
        return [await self.adispatch_job(job_data, session=session) for job_data in jobs]

    async def adispatch_task(self, name: TypeName, payload: Any = None, *, session: AsyncSession | None = None) -> None:
        """Call :meth:`dispatch_task` without blocking the event loop."""
        if session is not None:
            await session.run_sync(lambda inner: self.dispatch_task(name, payload, session=inner))
        else:
            await asyncio.to_thread(self.dispatch_task, name, payload)

    def open_batch(
        self, name: str, then: JobData | None = None, on_failed: str = "fail", *, session: Session | None = None
    ) -> Batch:
        """Open a batch; with ``session``, in the caller's transaction."""
        raise ConfigurationError(f"the runner {self._own_name()} has no batches: give it open_batch and close_batch")

    def close_batch(self, batch_id: int, *, session: Session | None = None) -> None:
        """Close a batch; with ``session``, in the caller's transaction."""
        raise ConfigurationError(f"the runner {self._own_name()} has no batches: give it open_batch and close_batch")

    async def aopen_batch(
        self, name: str, then: JobData | None = None, on_failed: str = "fail", *, session: AsyncSession | None = None
    ) -> Batch:
        """Call :meth:`open_batch` without blocking the event loop."""
        if session is not None:
            return await session.run_sync(lambda inner: self.open_batch(name, then, on_failed, session=inner))
        return await asyncio.to_thread(self.open_batch, name, then, on_failed)

    async def aclose_batch(self, batch_id: int, *, session: AsyncSession | None = None) -> None:
        """Call :meth:`close_batch` without blocking the event loop."""
        if session is not None:
            await session.run_sync(lambda inner: self.close_batch(batch_id, session=inner))
        else:
            await asyncio.to_thread(self.close_batch, batch_id)

    def get_job(self, job_id: int | UUID, *, session: Session | None = None) -> JobRequest | None:
        """Return a job's row, or None; with ``session``, as the caller's transaction sees it."""
        raise ConfigurationError(
            f"the runner {self._own_name()} can't read jobs: give it a function get_job(job_id, *, session=None)"
        )

    def retry_job(self, job_id: int | UUID, *, clear_checkpoints: bool = False) -> JobRequest | None:
        """Start a failed job again, and return its row, or None."""
        raise ConfigurationError(
            f"the runner {self._own_name()} can't retry jobs: give it a function "
            "retry_job(job_id, *, clear_checkpoints=False)"
        )

    def run_job_now(self, job_id: int | UUID, by: str = "") -> JobRequest | None:
        """Make a job due now that waits for its time, and return its row, or None."""
        raise ConfigurationError(
            f"the runner {self._own_name()} can't run jobs now: give it a function run_job_now(job_id, by='')"
        )

    def set_job_priority(self, job_id: int | UUID, priority: int, by: str = "") -> JobRequest | None:
        """Change the priority of a waiting or blocked job, and return its row, or None."""
        raise ConfigurationError(
            f"the runner {self._own_name()} can't change priorities: give it a function "
            "set_job_priority(job_id, priority, by='')"
        )

    def suspend_job(self, job_id: int | UUID, reason: str = "", by: str = "") -> JobRequest | None:
        """Let no attempt of a job start until it is resumed, and return its row, or None."""
        raise ConfigurationError(
            f"the runner {self._own_name()} can't suspend jobs: give it a function "
            "suspend_job(job_id, reason='', by='')"
        )

    def resume_job(self, job_id: int | UUID, by: str = "") -> JobRequest | None:
        """Let attempts of a suspended job start again, and return its row, or None."""
        raise ConfigurationError(
            f"the runner {self._own_name()} can't resume jobs: give it a function resume_job(job_id, by='')"
        )

    @property
    def limits(self) -> SqlLimits:
        """The limits, rates and pauses that its workers obey."""
        raise ConfigurationError(f"the runner {self._own_name()} has no limits that can be changed here")

    @property
    def schedules(self) -> RuntimeSchedules:
        """The schedules, to change them at run time."""
        raise ConfigurationError(f"the runner {self._own_name()} has no schedules")

    def _own_name(self) -> str:
        return type(self).__name__

    async def aget_job(self, job_id: int | UUID, *, session: AsyncSession | None = None) -> JobRequest | None:
        """Call :meth:`get_job` without blocking the event loop."""
        if session is not None:
            return await session.run_sync(lambda inner: self.get_job(job_id, session=inner))
        return await asyncio.to_thread(self.get_job, job_id)


REQUIRED = ("fully_configured", "dispatch_job", "dispatch_task")
"""The names of the functions that a runner must have."""
_OPTIONAL = (
    "missing_settings",
    "start",
    "close",
    "adispatch_job",
    "dispatch_jobs",
    "adispatch_jobs",
    "adispatch_task",
    "open_batch",
    "close_batch",
    "aopen_batch",
    "aclose_batch",
    "get_job",
    "aget_job",
    "retry_job",
    "run_job_now",
    "set_job_priority",
    "suspend_job",
    "resume_job",
)


class _Adapted(Runner):
    """A module or an object with a runner's functions, which replace the defaults."""

    def __init__(self, found: Any, where: str) -> None:
        self._found = found
        self._capabilities = _capabilities_of(found, where)
        vars(self).update({name: getattr(found, name) for name in _OPTIONAL if callable(getattr(found, name, None))})

    def fully_configured(self) -> bool:
        return bool(self._found.fully_configured())

    def dispatch_job(self, job_data: JobData, *, session: Session | None = None) -> JobRequest:
        job: JobRequest = self._found.dispatch_job(job_data, session=session)
        return job

    def dispatch_task(self, name: TypeName, payload: Any = None, *, session: Session | None = None) -> None:
        self._found.dispatch_task(name, payload, session=session)

    @property
    def capabilities(self) -> Collection[Capability]:
        return self._capabilities

    def _own_name(self) -> str:
        return str(getattr(self._found, "__name__", type(self._found).__name__))


def adapted(found: Any, where: str) -> Runner:
    """Return ``found`` if it is a runner, else adapt it: a module or an object with a runner's functions.

    :param where: the origin of ``found``, for the error.
    :raises ConfigurationError: naming the functions that it lacks.
    """
    if isinstance(found, Runner):
        return found
    missing = [name for name in REQUIRED if not callable(getattr(found, name, None))]
    if missing:
        raise ConfigurationError(f"{where} isn't a runner: it lacks {', '.join(missing)}")
    return _Adapted(found, where)


def _capabilities_of(found: Any, where: str) -> frozenset[Capability]:
    """Return the capabilities in the attribute ``capabilities``, or those that the function of that name returns."""
    given = getattr(found, "capabilities", ALL_CAPABILITIES)
    try:
        return frozenset(Capability(item) for item in (given() if callable(given) else given))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{where}: its capabilities must be a collection of Capability: {error}") from None
