"""A ledger in memory, for tests without a database: the SQL ledger, on an SQLite database that only it knows.

The sessions of the application's jobs are on another database. What :class:`SqlAttempts` writes in such a session's
transaction, this ledger writes as soon as the session has committed.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Dialect, Engine, create_engine, delete, event, make_url, select, text, update
from sqlalchemy.pool import QueuePool

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.ledger.columns.lenient import read_json
from spoke_jobs.ledger.engine import configure_sqlite
from spoke_jobs.ledger.lifecycle import finish
from spoke_jobs.ledger.lifecycle.dispatching import dispatch_jobs
from spoke_jobs.ledger.rows import REQUEST_COLUMNS, to_request
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import SCHEMA, job_dependency, job_request, metadata, sql_name
from spoke_jobs.model import UNMEASURED, AttemptUsage, Claim, JobRequest, JobState, NewJob, Progress

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_NUMBERS = sql_name("sqlite_sequence")
_LAST_ID = text(f"SELECT seq FROM {_NUMBERS} WHERE name = 'job_request'")  # noqa: S608 (a constant)
_SET_LAST_ID = text(f"UPDATE {_NUMBERS} SET seq = :id WHERE name = 'job_request'")  # noqa: S608 (a constant)
_utc_now = partial(datetime.now, UTC)


@dataclass(frozen=True, slots=True)
class Reserved:
    """A dispatch in an open transaction."""

    job: JobRequest
    """The row as it will be after the commit."""
    new: NewJob


class MemoryLedger(SqlLedger):
    """See the module's docstring. Safe to share between threads.

    :param now: the clock, instead of the database's.
    """

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        super().__init__(_engine(now))

    def all_jobs(self) -> Sequence[JobRequest]:
        """List all jobs, oldest first, with their payloads."""
        with self._reading() as connection:
            rows = connection.execute(select(*REQUEST_COLUMNS).order_by(job_request.c.id)).mappings()
            return [to_request(row) for row in rows]

    def claim_batch(self, *given: Any, **named: Any) -> Sequence[Claim]:
        """Claim due jobs, in an order that does not depend on how long earlier searches took."""
        self._claims.forget_places()
        return super().claim_batch(*given, **named)

    def fence(self, session: Session, token: UUID) -> None:
        """Check that the claim is valid now. It may become invalid before the session's commit."""
        with self.engine.begin() as connection:
            finish.lock_claim(connection, token)

    def save(self, session: Session | None, token: UUID, values: Mapping[str, str]) -> None:
        """Save values as soon as the session has committed."""
        save = partial(super().save, None, token, values)
        if session is None:
            save()
            return
        self.fence(session, token)
        event.listen(session, "after_commit", lambda _session: save(), once=True)

    def succeed(
        self,
        session: Session | None,
        token: UUID,
        result: Any,
        progress: Progress | None = None,
        usage: AttemptUsage = UNMEASURED,
    ) -> None:
        """Record success as soon as the session has committed."""
        succeed = partial(super().succeed, None, token, result, progress, usage)
        if session is None:
            succeed()
            return
        self.fence(session, token)
        event.listen(session, "after_commit", lambda _session: succeed(), once=True)

    def reserve(self, new: NewJob, earlier: Sequence[Reserved] = ()) -> Reserved:
        """Give a job its id, and find out what its row will be: write it, and roll that back.

        :param earlier: the dispatches of the same transaction, on which it may depend.
        """
        with self.engine.begin() as connection:
            number = connection.scalar(_LAST_ID) + 1
            new = replace(new, id=number, uid=uuid.uuid4())
            with connection.begin_nested() as written:
                for one in _needed(new, earlier):
                    dispatch_jobs(connection, [one])
                (job,) = dispatch_jobs(connection, [new])
                written.rollback()
            connection.execute(_SET_LAST_ID, {"id": number})  # used up even if no job is written
        return Reserved(job, new)

    def publish(self, reserved: Reserved) -> None:
        """Write a reserved job, whose transaction is committed. If another job has its unique key now, write none."""
        row = reserved.job
        with self.engine.begin() as connection:
            (job,) = dispatch_jobs(connection, [reserved.new])
            if job.uid == reserved.new.uid:
                times = {"created_at": row.created_at, "updated_at": row.updated_at, "start_by": row.start_by}
                connection.execute(update(job_request).where(job_request.c.id == job.id).values(times))

    def withdraw(self, reserved: Reserved) -> None:
        """Remove a job whose transaction was rolled back after its commit seemed sure, unless it has started."""
        with self.engine.begin() as connection:
            of_dispatch, not_started = job_request.c.uid == reserved.new.uid, job_request.c.attempt <= 0
            unfinished = job_request.c.state.in_((JobState.WAITING, JobState.BLOCKED))
            found = connection.scalar(select(job_request.c.id).where(of_dispatch, not_started, unfinished))
            connection.execute(delete(job_dependency).where(job_dependency.c.needs_id == found))
            connection.execute(delete(job_request).where(job_request.c.id == found))


def _needed(new: NewJob, earlier: Sequence[Reserved]) -> Iterable[NewJob]:
    """Return the earlier dispatches that a new one depends on, directly or not, or whose unique key it has."""
    found: list[NewJob] = []
    ids, keys = set(new.after), {new.unique_key} - {None}
    for one in reversed(earlier):
        if not ids.isdisjoint((one.job.id, one.job.uid)) or one.new.unique_key in keys:
            found.append(one.new)
            ids |= set(one.new.after)
            keys |= {one.new.unique_key} - {None}
    return reversed(found)


class _Connection(sqlite3.Connection):
    """A connection that is closed with its ledger, which nobody has to close."""

    def __del__(self) -> None:
        self.close()


def _engine(now: Callable[[], datetime]) -> Engine:
    """Create an engine with a single connection. While one thread uses it, the others wait."""
    dialect, empty = _template()

    def connect() -> Any:
        connection = _connection()
        connection.deserialize(empty, name=_SCHEMA_NAME)
        connection.create_function("ledger_now", 0, lambda: f"{now().astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}")
        return connection

    pool = QueuePool(connect, pool_size=1, max_overflow=0, dialect=dialect)
    options = {"compiled_cache": _COMPILED}
    engine = Engine(pool, dialect, make_url("sqlite://"), hide_parameters=True, execution_options=options)

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def on_execute(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return statement.replace("'now'", "ledger_now()"), parameters

    return configure_sqlite(engine)


_SCHEMA_NAME = SCHEMA or "main"
_OLDEST_SQLITE = (3, 36)
"""The first with RETURNING whose databases Python can copy."""
_COMPILED: dict[Any, Any] = {}
"""The compiled statements of all ledgers. Compiling those of one job takes much longer than executing them."""


def _connection() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", check_same_thread=False, factory=_Connection)
    if SCHEMA:
        connection.execute(f"ATTACH ':memory:' AS \"{SCHEMA}\"")
    return connection


@cache
def _template() -> tuple[Dialect, bytes]:
    """Return the dialect that all ledgers share, and an empty ledger: a copy of it is quicker than creating tables.

    :raises ConfigurationError: if Python's SQLite is too old.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigurationError(
            f"a ledger in memory needs SQLite 3.36 or newer, and this Python has {sqlite3.sqlite_version}"
        )
    engine = create_engine("sqlite://", creator=_connection, json_deserializer=read_json)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO {_NUMBERS} (name, seq) VALUES ('job_request', 0)")  # noqa: S608
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        return engine.dialect, driver.serialize(name=_SCHEMA_NAME)
