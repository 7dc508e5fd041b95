"""The hooks that an application may define, and what they receive."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from spoke_jobs.job_options import JobData
from spoke_jobs.model import JobRequest
from spoke_jobs.type_names import TypeName

TRACE_ID = "spoke_jobs.trace_id"
"""The key in ``state`` of a call under which the middleware of traces keeps the id of the trace, if it is sampled."""

Hooked = Awaitable[None] | None
"""What a hook returns: nothing. A hook may be an ``async def``."""


@dataclass(slots=True, eq=False)
class DispatchCall:
    """A call that dispatches one job, several jobs, or a task."""

    jobs: tuple[JobData, ...] = ()
    """The jobs, as they were given; none if the call dispatches a task."""
    task: TypeName = ""
    """The task's name, as it was given; empty if the call dispatches jobs."""
    payload: Any = None
    """The task's payload. That of a job is in its :class:`JobData`."""
    rows: tuple[JobRequest, ...] = ()
    """In ``after_dispatch``: the rows of the jobs, in the same order."""
    state: dict[str, Any] = field(default_factory=dict)
    """For what a hook keeps for the later hooks of the same call."""


@dataclass(slots=True, eq=False)
class AttemptCall:
    """The call of a job's function, in one attempt of the job."""

    job: JobRequest
    """The job's row, as it was when the attempt was claimed."""
    attempt: int
    """The attempt's number, from 1."""
    payload: Any
    """As the function takes it."""
    ctx: Any
    """The function's :class:`~spoke_jobs.JobContext`."""
    pattern: str = ""
    """The declaration's name if it stands for many types: ``ingest.*``."""
    asked_at: float | None = None
    """When the claim was requested, on this machine's monotonic clock; None if unknown."""
    state: dict[str, Any] = field(default_factory=dict)
    """For what a hook keeps for the later hooks of the same call."""


@dataclass(slots=True, eq=False)
class TaskCall:
    """The call of a task's function."""

    id: str
    """The same in every delivery of the task."""
    name: str
    attempt: int
    """The attempt's number, from 1."""
    payload: Any
    """As the function takes it."""
    ctx: Any
    """The function's :class:`~spoke_jobs.TaskContext`."""
    pattern: str = ""
    """The declaration's name if it stands for many tasks: ``send.*``."""
    traceparent: str = ""
    """The W3C trace context of the dispatch; empty if there is none."""
    state: dict[str, Any] = field(default_factory=dict)
    """For what a hook keeps for the later hooks of the same call."""


class Middleware:
    """Hooks around dispatches, attempts and tasks. Override those that you need: see docs/how-to/middleware.md.

    One object serves all threads of a process. ``before_*`` hooks are called in the order in which the application
    added its middleware, all others in the reverse order. What a hook raises is logged, and changes nothing else.
    """

    def before_dispatch(self, call: DispatchCall) -> Hooked:
        """Before jobs or a task are checked and written or sent."""

    def after_dispatch(self, call: DispatchCall) -> Hooked:
        """After a dispatch. With ``session=``, its transaction is not committed yet."""

    def dispatch_failed(self, call: DispatchCall, error: BaseException) -> Hooked:
        """After a dispatch that raised."""

    def before_attempt(self, call: AttemptCall) -> Hooked:
        """Before a job's function is called."""

    def after_attempt(self, call: AttemptCall) -> Hooked:
        """After a job's function has returned. Its success is recorded next."""

    def attempt_failed(self, call: AttemptCall, error: BaseException) -> Hooked:
        """After a job's function has raised, for example because its timeout has cancelled it."""

    def attempt_recorded(self, call: AttemptCall, cause: str) -> None:
        """After the attempt's end is recorded in the ledger. A plain ``def``, which must not block.

        :param cause: why the attempt failed, of docs/reference/causes.md; empty after a success.
        """

    def before_task(self, call: TaskCall) -> Hooked:
        """Before a task's function is called."""

    def after_task(self, call: TaskCall) -> Hooked:
        """After a task's function has returned. Its session is committed next."""

    def task_failed(self, call: TaskCall, error: BaseException) -> Hooked:
        """After a task's function has raised."""

    def close(self) -> None:
        """Send what is still in memory: the process runs no further job or task. It waits for at most 3 s."""


class HookNames(NamedTuple):
    """The names of the hooks around one kind of call."""

    before: str
    after: str
    failed: str


DISPATCH = HookNames("before_dispatch", "after_dispatch", "dispatch_failed")
ATTEMPT = HookNames("before_attempt", "after_attempt", "attempt_failed")
TASK = HookNames("before_task", "after_task", "task_failed")
