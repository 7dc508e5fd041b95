"""What a running job or task is given: who it is, how to say how far it has come, and how to end in one piece."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy.orm import Session

from spoke_jobs.errors import Cancelled, ConfigurationError, Superseded
from spoke_jobs.execution.fenced_session import Fence, FencedSession
from spoke_jobs.ledger.port import Ledger, SessionFactory
from spoke_jobs.model import Claim, JobRequest, Progress
from spoke_jobs.payloads import encode_result

PROGRESS_MESSAGE_LIMIT = 200


class _JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Each line says which job and attempt it is of."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        extra = self.extra or {}
        return f"[job {extra['request_id']} attempt {extra['attempt']}] {msg}", {**kwargs, "extra": dict(extra)}


class JobContext:
    """A running attempt's view of itself. One thread runs the job; progress and cancellation are safe from any."""

    def __init__(
        self,
        claim: Claim,
        ledger: Ledger,
        sessions: SessionFactory,
        *,
        cancel: threading.Event,
        report: Callable[[Progress], None],
        ending: Callable[[], AbstractContextManager[object]] = nullcontext,
        run_until: float | None = None,
    ) -> None:
        self._claim = claim
        self._ledger = ledger
        self._cancel = cancel
        self._report = report
        self._ending = ending
        self._run_until = run_until
        self._fenced = FencedSession(sessions, lambda session: ledger.fence(session, claim.token))
        self.logger = _JobLogger(
            logging.getLogger(f"spoke_jobs.job.{claim.job.job_type}"),
            {"request_id": claim.job.id, "job_type": claim.job.job_type, "attempt": claim.number},
        )
        """Logs with the job's id and attempt."""

    @property
    def completed(self) -> bool:
        """Whether success is recorded."""
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
        """The same for every process that runs this attempt: send it along where effects outside must not repeat.

        ``ctx.job.uid`` is the key that stays the same over all attempts.
        """
        return f"{self.job.uid}-{self.job.run}-{self.attempt}"

    @property
    def cancelled(self) -> bool:
        """Whether the job was asked to stop. What it returns still counts as its success; see `raise_if_cancelled`."""
        return self._cancel.is_set()

    @property
    def remaining_seconds(self) -> float | None:
        """How much of the job's timeout is left, at least 0; None if it has none."""
        return None if self._run_until is None else max(0.0, self._run_until - time.monotonic())

    def raise_if_cancelled(self) -> None:
        """End the attempt here if the job was asked to stop (a deploy, a drained node): it is tried again.

        :raises Cancelled: let it pass.
        """
        if self._cancel.is_set():
            raise Cancelled("the job was asked to stop before it was done")

    def progress(self, percent: int, message: str = "") -> None:
        """Say how far the job has come: cheap, recorded off the job's thread, several calls as one write.

        :param percent: 0 to 100.
        :param message: a few words for whoever watches; what exceeds 200 characters is cut.
        """
        given: object = percent
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= 100:
            raise ValueError(f"progress is a whole number of percent from 0 to 100, not {percent!r}")
        self._report(Progress(percent, message[:PROGRESS_MESSAGE_LIMIT]))

    @property
    def session(self) -> Session:
        """A session on the application's database whose every commit counts only while this attempt holds its claim.

        A process that was superseded gets :class:`~spoke_jobs.errors.Superseded` from ``commit()``, and nothing of
        the transaction stays. What is uncommitted at the job's end commits together with its success. Jobs and tasks
        that the job dispatches belong here too: ``dispatch_job(..., session=ctx.session)``.
        On SQLite its transaction, a reading one as well, holds the database's one write lock: commit or roll back soon.
        """
        return self._fenced.get()

    @property
    def has_session(self) -> bool:
        """Whether the job has asked for :attr:`session`."""
        return self._fenced.used is not None

    @contextmanager
    def complete(self, result: Any = None) -> Iterator[Session]:
        """Commit the job's own writes and its success in one transaction, or neither. The last thing that a job does.

        ``with ctx.complete(result) as session: ...``

        :param result: small JSON, kept in the job's row.
        :raises Superseded: at the block's end, if another process holds the job by now; the block is rolled back.
        """
        if self.completed:
            raise RuntimeError("ctx.complete() was entered before: a job completes once")
        encoded = encode_result(result)
        try:
            yield self.session
            self._finish(self.session, encoded)
        except BaseException:
            self.session.rollback()
            raise

    def finish(self, result: Any) -> None:
        """Record success after the function returned, unless it completed by itself; commits the session's rest."""
        if not self.completed:
            self._finish(self._fenced.used, encode_result(result))

    def close(self) -> None:
        """Roll back and let go of what was not committed, and of the session: its connection may be others' as well."""
        self._fenced.close()

    def _finish(self, session: Session | None, encoded: Any) -> None:
        with self._ending():
            if session is not None:
                session.flush()
            self._ledger.succeed(session, self._claim.token, encoded)
            self._fenced.over = True
            if session is not None:
                try:
                    session.commit()
                except BaseException:
                    self._fenced.over = False
                    raise


class TaskContext:
    """What a running task is given. One thread runs the task."""

    __slots__ = ("_fence", "_fenced", "_run_until", "_sessions", "attempt", "id", "logger")

    def __init__(
        self,
        id: str,  # noqa: A002  (the task's own word)
        attempt: int,
        logger: logging.Logger,
        *,
        sessions: SessionFactory | None = None,
        fence: Fence = lambda _session: None,
        run_until: float | None = None,
    ) -> None:
        self.id = id
        """The same at every delivery of one task: send it along where effects outside must not repeat."""
        self.attempt = attempt
        """Which try this is, from 1: one more after each that failed."""
        self.logger = logger
        self._run_until = run_until
        self._sessions = sessions
        self._fence = fence
        self._fenced: FencedSession | None = None

    @property
    def remaining_seconds(self) -> float | None:
        """How much of the task's timeout is left, at least 0; None where nothing ends it."""
        return None if self._run_until is None else max(0.0, self._run_until - time.monotonic())

    @property
    def session(self) -> Session:
        """A session on the application's database. What is uncommitted when the function returns is committed then;
        if it raises, it is rolled back.

        For a task that was dispatched with ``session=`` that commit and the record that it has run are one: its
        effects count once, however often it is begun. Others may be run again, if their server dies.
        """
        if self._fenced is None:
            self._fenced = FencedSession(self._sessions or _no_sessions, self._fence)
        return self._fenced.get()

    @property
    def has_session(self) -> bool:
        """Whether the task has asked for :attr:`session`."""
        return self._fenced is not None and self._fenced.used is not None

    def finish(self, end: Callable[[Session], None] | None = None) -> None:
        """After the function returned: commit the session's rest, and ``end``, which records that the task has run."""
        if self._fenced is None or self._fenced.used is None:
            return
        session = self._fenced.used
        session.flush()
        if end is not None:
            end(session)
            self._fenced.over = True
        session.commit()

    def close(self) -> None:
        """Roll back and let go of what was not committed."""
        if self._fenced is not None:
            self._fenced.close()


def _no_sessions() -> Session:
    raise ConfigurationError(
        "ctx.session needs the application's database: set SPOKE_DATABASE_URL where tasks are run (in a test, give "
        "sessions=... or session=...)"
    )


__all__ = ["JobContext", "Superseded", "TaskContext"]
