"""Contexts for calling a job's or a task's function directly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.execution.context import JobContext, TaskContext
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.model import CHECKPOINT, JobData, Progress
from spoke_jobs.payloads import encode_checkpoint
from spoke_jobs.registry import Registry
from spoke_jobs.runners.prepare import prepare_job
from spoke_jobs.testing.sessions import Sessions, plain_sessions
from spoke_jobs.type_names import TypeName, plain_name

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_LEASE_SECONDS = 3600.0
_NO_STEPS: Mapping[str, Any] = MappingProxyType({})


class FakeContext(JobContext):
    """A job's context without a running job. A test can read what the function reports and returns."""

    reports: list[Progress]
    """What was given to ``ctx.progress``, in order."""

    @property
    def result(self) -> Any:
        """Return the argument of ``ctx.complete``; None before that call."""
        row = self._ledger.get(self.job.id)
        return None if row is None else row.result

    def cancel(self) -> None:
        """Ask the job to stop: ``ctx.cancelled`` is true from now on."""
        self._cancel.set()


def fake_context(
    job_type: TypeName = "job",
    *,
    session: Session | None = None,
    sessions: Sessions | None = None,
    checkpoint: Any = None,
    steps: Mapping[str, Any] = _NO_STEPS,
) -> FakeContext:
    """Return a context to call a job's function with, as in ``export(fake_context(session=session), Export(...))``.

    :param job_type: the value of ``ctx.job.job_type``.
    :param session: the value of ``ctx.session``, for example the test's own; it isn't closed.
    :param sessions: a factory of sessions, instead of ``session``.
    :param checkpoint: what an earlier attempt has saved: the value of ``ctx.checkpoint``.
    :param steps: the results of the steps that earlier attempts have done, by name.
    """
    registry = Registry()
    name = plain_name(job_type)
    registry.job(name)(lambda _ctx, _payload: None)
    ledger = MemoryLedger()
    job = ledger.insert(prepare_job(JobData(name), registry, runner="memory"))
    claim = ledger.claim(job.id, job.uid, job.run, 1, "test", _LEASE_SECONDS)
    reports: list[Progress] = []
    context = FakeContext(
        claim,  # type: ignore[arg-type]  # nobody else could have claimed it
        ledger,
        _one(session) if session is not None else plain_sessions(sessions or _none),
        cancel=threading.Event(),
        report=reports.append,
    )
    context.reports = reports
    earlier = {CHECKPOINT: checkpoint, **steps} if checkpoint is not None else steps
    if earlier:
        ledger.save(
            None, context._claim.token, {name: encode_checkpoint(value, name) for name, value in earlier.items()}
        )
    return context


def fake_task_context(
    task_id: str = "task", *, session: Session | None = None, sessions: Sessions | None = None
) -> TaskContext:
    """Return a context to call a task's function with.

    :param session: the value of ``ctx.session``, for example the test's own; it isn't closed.
    :param sessions: a factory of sessions, instead of ``session``.
    """
    made = _one(session) if session is not None else plain_sessions(sessions or _none)
    return TaskContext(task_id, 1, logging.getLogger("spoke_jobs.task"), sessions=made)


def _one(session: Session) -> Callable[[], Session]:
    return lambda: session


def _none() -> Session:
    raise ConfigurationError("the function uses ctx.session: fake_context(session=...) or fake_context(sessions=...)")
