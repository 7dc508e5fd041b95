"""What a runner is: anything with these functions, a plain module included.

The first three are the API of the platform that this library is the counterpart of; the async twins are for callers on
an event loop, and a runner without them is called in a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from spoke_jobs.model import JobData, JobRequest
from spoke_jobs.type_names import TypeName

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session


@runtime_checkable
class Runner(Protocol):
    """The three functions. Called from any thread."""

    def fully_configured(self) -> bool:
        """Whether every setting that the runner needs is there; if not, the process refuses to start."""

    def dispatch_job(self, job_data: JobData, *, session: Session | None = None) -> JobRequest:
        """Record a job and see that it is run once the record is committed.

        With ``session`` the record is written in the caller's transaction: rolled back, there is no job.
        """

    def dispatch_task(self, name: TypeName, payload: Any = None, *, session: Session | None = None) -> None:
        """Have a task run; with ``session``, once the caller's transaction is committed.

        Whether it outlives this process from then on is the runner's to say.
        """


class AsyncRunner(Runner, Protocol):
    """A runner with twins for callers on an event loop."""

    async def adispatch_job(self, job_data: JobData, *, session: AsyncSession | None = None) -> JobRequest:
        """See :meth:`Runner.dispatch_job`."""

    async def adispatch_task(self, name: TypeName, payload: Any = None, *, session: AsyncSession | None = None) -> None:
        """See :meth:`Runner.dispatch_task`."""


class NamesMissingSettings(Protocol):
    """An optional capability: saying which settings are missing."""

    def missing_settings(self) -> list[str]:
        """The names of the environment variables that are not set, each with a word on what it is."""
