"""The context that a running job or task receives: its identity, progress, cancellation and session."""

from __future__ import annotations

import inspect
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, overload

from spoke_jobs.errors import Cancelled, ConfigurationError, Superseded
from spoke_jobs.execution.attempt_checkpoints import Checkpoints
from spoke_jobs.execution.fenced_session import Fence, FencedSession
from spoke_jobs.ledger.port import SessionFactory
from spoke_jobs.model import CHECKPOINT, UNMEASURED, AttemptUsage, Claim, JobRequest, Progress
from spoke_jobs.payloads import encode_checkpoint, encode_result
from spoke_jobs.shared.secret_file import Secret

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from spoke_jobs.ledger.sql_attempts import SqlAttempts


PROGRESS_MESSAGE_LIMIT = 200
_Returned = TypeVar("_Returned")


class _JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Prefix each line with the job's id and attempt."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        extra = self.extra or {}
        return f"[job {extra['request_id']} attempt {extra['attempt']}] {msg}", {**kwargs, "extra": dict(extra)}


class JobContext:
    """The context of a running attempt. Progress and cancellation are thread-safe."""

    def __init__(
        self,
        claim: Claim,
        ledger: SqlAttempts,
        sessions: SessionFactory,
        *,
        cancel: threading.Event,
        report: Callable[[Progress], None],
        ending: Callable[[], AbstractContextManager[Progress | None]] = nullcontext,
        run_until: float | None = None,
        measure: Callable[[], AttemptUsage] = lambda: UNMEASURED,
    ) -> None:
        self._claim = claim
        self._ledger = ledger
        self._cancel = cancel
        self._report = report
        self._ending = ending
        self._run_until = run_until
        self._measure = measure
        self._checkpoints = Checkpoints(ledger, claim.job.id, claim.token)
        self._fenced = FencedSession(sessions, self._fence)
        self.logger = _JobLogger(
            logging.getLogger(f"spoke_jobs.job.{claim.job.job_type}"),
            {"request_id": claim.job.id, "job_type": claim.job.job_type, "attempt": claim.number},
        )
        """Logs with the job's id and attempt."""

    @property
    def completed(self) -> bool:
        """Whether the success is recorded."""
        return self._fenced.over

    @completed.setter
    def completed(self, recorded: bool) -> None:
        self._fenced.over = recorded

    @property
    def job(self) -> JobRequest:
        """The job's row, as it was when the attempt was claimed."""
        return self._claim.job

    @property
    def attempt(self) -> int:
        """The attempt's number, from 1."""
        return self._claim.number

    @property
    def attempt_key(self) -> str:
        """An idempotency key of this attempt, the same in every process that runs it.

        Send it with external calls that must not be repeated. ``ctx.job.uid`` stays the same across attempts.
        """
        return f"{self.job.uid}-{self.job.run}-{self.attempt}"

    @property
    def scheduled_for(self) -> datetime | None:
        """When the job was due by its schedule; None if no schedule dispatched it.

        It is the exact due time, however late the job starts: use it to decide which day or hour to work on.
        """
        return self.job.scheduled_for

    @property
    def cancelled(self) -> bool:
        """Whether the job was asked to stop. A job that returns normally still succeeds."""
        return self._cancel.is_set()

    @property
    def remaining_seconds(self) -> float | None:
        """Seconds left of the job's timeout, at least 0; None if it has none."""
        return None if self._run_until is None else max(0.0, self._run_until - time.monotonic())

    def raise_if_cancelled(self) -> None:
        """Raise if the job was asked to stop, for example by a deploy or a drained node. The job is retried later.

        :raises Cancelled: do not catch it.
        """
        if self._cancel.is_set():
            raise Cancelled("the job was asked to stop before it was done")

    def progress(self, percent: int, message: str = "") -> None:
        """Report progress. The call is cheap: a background thread writes the newest report, at short intervals.

        :param percent: 0 to 100.
        :param message: a short text for people, truncated to 200 characters.
        """
        given: object = percent
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= 100:
            raise ValueError(f"progress is a whole number of percent from 0 to 100, not {percent!r}")
        self._report(Progress(percent, message[:PROGRESS_MESSAGE_LIMIT]))

    def progress_token(self, *, valid_for: float = 3600, key: Secret = "") -> str:
        """Return a token with which somebody may follow this job's progress: see ``JobRequest.progress_token``."""
        return self.job.progress_token(valid_for=valid_for, key=key)

    @property
    def session(self) -> Session:
        """A session on the application's database that can commit only while this attempt holds its claim.

        If another process has taken over, ``commit()`` raises :class:`~spoke_jobs.errors.Superseded` and rolls back.
        Uncommitted writes are committed together with the job's success. Use this session for dispatches as well:
        ``dispatch_job(..., session=ctx.session)``.
        On SQLite every transaction holds the database's write lock, even one that only reads. End each one soon.
        """
        return self._fenced.get()

    @property
    def has_session(self) -> bool:
        """Whether the job has used :attr:`session`."""
        return self._fenced.used is not None

    @property
    def checkpoint(self) -> Any:
        """What :meth:`save` last saved for this job, in this or an earlier attempt; None if nothing was saved.

        Plain JSON, and a new object at each access.
        """
        text = self._checkpoints.get(CHECKPOINT)
        return None if text is None else json.loads(text)

    def save(self, value: Any) -> None:
        """Save a checkpoint in :attr:`session`'s transaction: its next commit stores the rows and the checkpoint.

        If that transaction is rolled back, or another process has taken over, neither is stored.

        :param value: small JSON, which replaces the previous checkpoint.
        :raises InvalidCheckpoint: if it isn't JSON, or is too large.
        """
        self._checkpoints.put(self.session, CHECKPOINT, encode_checkpoint(value, "the job's checkpoint"))

    @overload
    def step(self, name: str, function: Callable[[], Awaitable[_Returned]]) -> Awaitable[_Returned]: ...
    @overload
    def step(self, name: str, function: Callable[[], _Returned]) -> _Returned: ...
    def step(self, name: str, function: Callable[[], Any]) -> Any:
        """Call ``function``, and store what it returns. In later attempts of the job, return what was stored.

        The commit that stores the result is one of :attr:`session`: it also commits what the function wrote. If the
        function raises, the session is rolled back, and the step is not done. Commit or complete nothing inside.

        :param name: the step's name, unique within the job.
        :param function: returns small JSON. If it is an ``async def``, write ``await ctx.step(...)``.
        :returns: the result as plain JSON, in the first attempt as well.
        :raises InvalidCheckpoint: if the result isn't JSON or is too large, or the name was used in this attempt.
        :raises Superseded: if another process has taken over.
        """
        self._checkpoints.begin_step(name)
        if is_async(function):
            return self._async_step(name, function)
        with self._failing_step(name):
            if (stored := self._checkpoints.get(name)) is None:
                result = function()
                if inspect.isawaitable(result):
                    if inspect.iscoroutine(result):
                        result.close()
                    raise TypeError(
                        f"the function of the step {name!r} returned an awaitable: give the `async def` function itself"
                    )
                stored = self._store_step(name, result)
        return json.loads(stored)

    async def _async_step(self, name: str, function: Callable[[], Awaitable[Any]]) -> Any:
        with self._failing_step(name):
            if (stored := self._checkpoints.get(name)) is None:
                stored = self._store_step(name, await function())
        return json.loads(stored)

    def _store_step(self, name: str, result: Any) -> str:
        text = encode_checkpoint(result, f"the result of the step {name!r}")
        if self.has_session:
            self._checkpoints.put(self.session, name, text)
            self.session.commit()
        else:
            self._checkpoints.put_at_once(name, text)
        return text

    @contextmanager
    def _failing_step(self, name: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._checkpoints.step_failed(name)
            if self._fenced.used is not None:
                self._fenced.used.rollback()
            raise

    def _fence(self, session: Session) -> None:
        if self._checkpoints.pending:
            self._checkpoints.write(session)
        else:
            self._ledger.fence(session, self._claim.token)

    @contextmanager
    def complete(self, result: Any = None) -> Iterator[Session]:
        """Commit the block's writes and the job's success in one transaction. Use it as the job's last step.

        ``with ctx.complete(result) as session: ...``

        :param result: small JSON, kept in the job's row.
        :raises Superseded: at the end of the block, if another process has taken over; the block is rolled back.
        """
        if self.completed:
            raise RuntimeError("ctx.complete() was already entered: a job completes once")
        encoded = encode_result(result)
        try:
            yield self.session
            self._finish(self.session, encoded)
        except BaseException:
            self.session.rollback()
            raise

    def finish(self, result: Any) -> None:
        """Record success and commit the session's open writes, after the function has returned.

        Do nothing if :meth:`complete` has recorded the success.
        """
        if not self.completed:
            self._finish(self._fenced.used, encode_result(result))

    def close(self) -> None:
        """Roll back uncommitted writes and close the session, which returns its connection to the pool."""
        self._fenced.close()

    def _finish(self, session: Session | None, encoded: Any) -> None:
        with self._ending() as progress:
            if session is not None:
                session.flush()
                if self._checkpoints.pending:
                    self._checkpoints.write(session)
            self._ledger.succeed(session, self._claim.token, encoded, progress, self._measure())
            self._fenced.over = True
            if session is not None:
                try:
                    session.commit()
                except BaseException:
                    self._fenced.over = False
                    raise


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling the function gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


class TaskContext:
    """The context of a running task. Use it from the task's own thread."""

    __slots__ = ("_fence", "_fenced", "_run_until", "_sessions", "attempt", "id", "logger", "traceparent")

    def __init__(
        self,
        id: str,  # noqa: A002  (part of the public API)
        attempt: int,
        logger: logging.Logger,
        *,
        sessions: SessionFactory | None = None,
        fence: Fence = lambda _session: None,
        run_until: float | None = None,
        traceparent: str = "",
    ) -> None:
        self.id = id
        """The same in every delivery of the task. Use it as idempotency key for calls that must not be repeated."""
        self.attempt = attempt
        """The number of this attempt, from 1. It grows by 1 after each failure."""
        self.logger = logger
        self.traceparent = traceparent
        """The W3C trace context of the dispatch; empty if there is none."""
        self._run_until = run_until
        self._sessions = sessions
        self._fence = fence
        self._fenced: FencedSession | None = None

    @property
    def remaining_seconds(self) -> float | None:
        """Seconds left of the task's timeout, at least 0; None if it has none."""
        return None if self._run_until is None else max(0.0, self._run_until - time.monotonic())

    @property
    def session(self) -> Session:
        """A session on the application's database. It is committed when the function returns, rolled back if it raises.

        If the task was dispatched with ``session=``, the same commit records that the task has run. So the session's
        writes take effect once, even if the task is started several times. Other tasks may run again if their server
        dies.
        """
        if self._fenced is None:
            self._fenced = FencedSession(self._sessions or _no_sessions, self._fence)
        return self._fenced.get()

    @property
    def has_session(self) -> bool:
        """Whether the task has used :attr:`session`."""
        return self._fenced is not None and self._fenced.used is not None

    def finish(self, end: Callable[[Session], None] | None = None) -> None:
        """Commit the session, after the function has returned.

        :param end: records in the session that the task has run.
        """
        if self._fenced is None or self._fenced.used is None:
            return
        session = self._fenced.used
        session.flush()
        if end is not None:
            end(session)
            self._fenced.over = True
        session.commit()

    def close(self) -> None:
        """Roll back uncommitted writes and close the session."""
        if self._fenced is not None:
            self._fenced.close()


def _no_sessions() -> Session:
    raise ConfigurationError(
        "ctx.session needs the application's database: set SPOKE_DATABASE_URL where tasks run (in a test, give "
        "sessions=... or session=...)"
    )


__all__ = ["JobContext", "Superseded", "TaskContext"]
