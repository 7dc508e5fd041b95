"""The part of the ledger in an SQL database that runs an attempt: a transaction for each statement.

A job's pod needs no more, and loads no more: every import delays its job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from spoke_jobs.ledger.claims import single_claim
from spoke_jobs.ledger.engine import READ_ONLY, is_locked
from spoke_jobs.ledger.lifecycle import checkpoints, finish, held_claims, transitions
from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits
from spoke_jobs.ledger.notify import Notifier, on_request
from spoke_jobs.ledger.port import NO_PROGRESS, NO_USAGE, ClaimRefusal
from spoke_jobs.ledger.rows import read_job
from spoke_jobs.ledger.sql.lock_patience import LockPatience, has_timed_out, limit_waits
from spoke_jobs.model import UNMEASURED, AttemptUsage, Claim, Failure, JobOptions, JobRequest, Progress, Pulse, Saved

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

R = TypeVar("R")

_TRIES = 5
_DEADLOCK = "40P01"


class SqlAttempts:
    """What an attempt needs of the ledger. Each change is one transaction, and checks the state that it starts from.

    Safe to share between threads; not across a fork.
    """

    def __init__(self, engine: Engine, *, keeps_successes: bool = True, patience: LockPatience | None = None) -> None:
        """Open a ledger.

        :param keeps_successes: whether the row of a successful job stays for its retention. Otherwise its retention is
            over at once.
        :param patience: how long what ends, cancels, retries or deletes jobs waits for rows that another transaction
            has locked (PostgreSQL). It then raises an error for which :func:`~spoke_jobs.ledger.engine.is_locked`
            holds, or leaves them for later. None: until that transaction ends.
        """
        self.engine = engine
        self._patience = patience if engine.dialect.name == "postgresql" else None
        self._keeps = keeps_successes
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self.limits = SqlLimits(engine)
        self.notifier = Notifier(engine)
        """Notifies workers and sync, also of jobs that the end of another one has unblocked."""
        on_request(engine, self._notify)

    def _notify(self) -> None:
        self.notifier.notify()

    def close_notifier(self) -> None:
        """Send a pending notification now: the process is about to end, or to close its connections."""
        notifier, self.notifier = self.notifier, Notifier(self.engine)
        notifier.close()

    def get(self, job_id: int | UUID) -> JobRequest | None:
        """Get the job with that id or uid."""
        with self.reading_single() as connection:
            return read_job(connection, job_id)

    def claim(
        self, job_id: int, uid: UUID, run: int, number: int, worker: str, lease_seconds: float, job_type: str = ""
    ) -> Claim | ClaimRefusal:
        """Claim that attempt of that job, taking over a claim whose lease has lapsed.

        :param job_type: the type that the job must have; empty: any.
        """
        for last in [False] * (_TRIES - 1) + [True]:
            try:
                with self.engine.begin() as connection:
                    return single_claim.claim(connection, job_id, uid, run, number, worker, lease_seconds, job_type)
            except (single_claim.Contended, IntegrityError):
                # Another process claimed the job between the two reads. The next try finds its claim.
                if last:
                    raise
        raise AssertionError("unreachable")

    def set_options(self, options: Mapping[UUID, JobOptions]) -> None:
        """Write the options of jobs whose rows name none, by the tokens of their claims."""
        with self.changing() as connection:
            for token, given in options.items():
                single_claim.set_options(connection, token, given)

    def heartbeat(self, token: UUID, lease_seconds: float, progress: Progress | None = None) -> Pulse:
        """Renew the lease and record progress. Wait for a transaction that has locked the claim."""
        with self._single() as connection:
            return held_claims.heartbeats(connection, {token: progress}, lease_seconds, wait=True)[token]

    def heartbeats(self, progress: Mapping[UUID, Progress | None], lease_seconds: float) -> Mapping[UUID, Pulse]:
        """Renew many leases and record their progress.

        Leave out the claims that another transaction has locked: they must not delay the others. Try these again soon.
        """
        with self._single() as connection:
            return held_claims.heartbeats(connection, progress, lease_seconds)

    def keep_output(self, token: UUID, tail: str, *, ended: bool = False) -> None:
        """Keep the last lines that an attempt has printed.

        :param ended: whether these are its last ones, after its success; otherwise it must be running still.
        """
        with self.engine.begin() as connection:
            finish.keep_output(connection, token, tail, ended=ended)

    def fence(self, session: Session, token: UUID) -> None:
        """Lock the claim in the session's transaction, so that it holds until the commit.

        :raises Superseded: if the token's claim is gone.
        """
        finish.lock_claim(session.connection(), token)

    def save(self, session: Session | None, token: UUID, values: Mapping[str, str]) -> None:
        """Save a checkpoint and the results of steps, as JSON text by name, and lock the claim like :meth:`fence`.

        Write in the session's transaction, which the caller commits. Without a session, commit at once.

        :raises Superseded: if the token's claim is gone.
        """
        if session is not None:
            checkpoints.save(session.connection(), token, values)
            return
        with self.engine.begin() as connection:
            checkpoints.save(connection, token, values)

    def saved(self, job_id: int) -> Sequence[Saved]:
        """Get what the job's attempts have saved: the checkpoint, and the steps in the order of their ends."""
        with self.reading_single() as connection:
            return checkpoints.saved(connection, job_id)

    def succeed(
        self,
        session: Session | None,
        token: UUID,
        result: Any,
        progress: Progress | None = None,
        usage: AttemptUsage = UNMEASURED,
    ) -> None:
        """Record success in the session's transaction, which the caller commits. Without a session, commit at once.

        :param progress: the last progress, unless it is already recorded.
        :param usage: what the attempt used.
        :raises Superseded: if the token's claim is gone.
        """
        if session is not None:
            finish.succeed(session.connection(), token, result, progress, usage, keep=self._keeps)
            return
        last = NO_PROGRESS if progress is None else {token: progress}
        if token not in self.succeed_many({token: result}, last, {token: usage}):
            raise transitions.superseded()

    def succeed_many(
        self,
        results: Mapping[UUID, Any],
        progress: Mapping[UUID, Progress] = NO_PROGRESS,
        usage: Mapping[UUID, AttemptUsage] = NO_USAGE,
    ) -> Set[UUID]:
        """Record successes in one transaction. Return the tokens whose claims were valid. The others are superseded.

        :param progress: each job's last progress, unless it is already recorded.
        :param usage: what each attempt used, as far as it was measured.
        """
        with self._single() as connection:
            recorded = held_claims.succeed_many(connection, results, progress, usage, keep=self._keeps)
        # The rest have lost their claims, or something depends on their end, which takes several statements.
        left = {token: result for token, result in results.items() if token not in recorded}
        if left and self.engine.dialect.name == "postgresql":
            recorded |= self._repeated(
                lambda connection: held_claims.succeed_awaited(connection, left, progress, usage, keep=self._keeps)
            )
        return recorded

    def _repeated(
        self, run: Callable[[Connection], R], begin: Callable[[], AbstractContextManager[Connection]] | None = None
    ) -> R:
        """Run a transaction. If the database ends it because of a deadlock, run it again.

        :param begin: opens the transaction; by default one with the ledger's patience.
        """
        for last in [False] * (_TRIES - 1) + [True]:
            try:
                with (begin or self.changing)() as connection:
                    return run(connection)
            except OperationalError as error:
                if last or getattr(error.orig, "sqlstate", None) != _DEADLOCK:
                    raise
        raise AssertionError("unreachable")

    def fail(self, token: UUID, failure: Failure, *, decide: bool) -> bool:
        """Record the attempt's failure. Return False if the token's claim is gone.

        With ``decide``, the retry policy decides whether the job waits for another attempt or has failed for good.
        Without it, the job waits, and the operator decides.
        """
        return self._repeated(lambda connection: finish.fail(connection, token, failure, decide=decide)) is not None

    def release(self, token: UUID) -> bool:
        """Undo a claim whose attempt was not started. Return False if the claim is gone.

        The job waits as before, and has been due since the same time. But the claim has cleared the message of its last
        attempt's failure; the cause stays.
        """
        with self.changing() as connection:
            return finish.release(connection, token)

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """Begin a transaction that changes jobs, with the ledger's patience."""
        if self._patience is None:
            with self.engine.begin() as connection:
                yield connection
            return
        try:
            with self.engine.begin() as connection:
                limit_waits(connection, self._patience.seconds)
                yield connection
                if has_timed_out(connection):
                    self._patience.timed_out()
        except DBAPIError as error:
            if is_locked(error):
                self._patience.timed_out()
            raise

    def _single(self) -> Any:
        """Open a connection for a single statement: without BEGIN and COMMIT, except on SQLite."""
        if self.engine.dialect.name == "postgresql":
            return self._autocommit.connect()
        return self.engine.begin()

    def reading_single(self) -> Any:
        """Open a connection for a single query. On SQLite it takes no write lock.

        On PostgreSQL it begins no transaction, also because that would end with ROLLBACK: psycopg then prepares all
        statements of the connection anew.
        """
        return self._autocommit.connect() if self.engine.dialect.name == "postgresql" else self._reading()

    def _reading(self) -> Any:
        return self.engine.connect().execution_options(**{READ_ONLY: True})
