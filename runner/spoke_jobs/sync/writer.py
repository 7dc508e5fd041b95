"""The only connection that sync writes on. Its session holds the lock of the active sync.

If the connection breaks, sync loses the lock and can no longer write.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import DBAPIError

from spoke_jobs.ledger.engine import check_schema, create_engine, is_locked, reason_of
from spoke_jobs.ledger.notify import send_requested
from spoke_jobs.ledger.sql.lock_patience import LOCK_TIMEOUT_SECONDS, LockPatience, has_timed_out, limit_waits
from spoke_jobs.ledger.tables import SCHEMA, sql_name
from spoke_jobs.shared.secret_file import Secret

logger = logging.getLogger(__name__)

LOCK = (
    int.from_bytes(hashlib.blake2b(SCHEMA.encode(), digest_size=8).digest(), signed=True)
    if SCHEMA
    else 0x5350_4F4B_4553_594E
)
"""The advisory lock's number: one per database ("SPOKESYN"), and one for each further schema."""
_TIMEOUTS = (f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'", "SET statement_timeout = '20s'")
_KEEPALIVES = (
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 20000",
    "SET idle_in_transaction_session_timeout = '20s'",
)
"""Make the server notice soon that sync's node or network is lost. By default the session, which holds the lock, would
outlive the process by hours. The last setting ends the transaction of a frozen process, which may lock rows of pods."""


_OWN_TABLE = sql_name("attempt_report")
"""A table that only sync's role may write, if the roles are separate."""
_FOREIGN_HOLDER = text("""
SELECT holder.pid, holder.usename, holder.application_name
FROM pg_locks JOIN pg_stat_activity holder USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND classid::bigint = :high AND objid::bigint = :low
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND NOT has_table_privilege(holder.usesysid, :table, 'INSERT')
""")


_HOLDS = text("""
SELECT backend_start FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND classid::bigint = :high AND objid::bigint = :low
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
LIMIT 1
""")


class ActiveSync(NamedTuple):
    """The session that holds the lock of the active sync."""

    since: datetime | None
    """Since when it has been connected; None if the server does not tell this role."""


def active_sync(connection: Connection) -> ActiveSync | None:
    """Find the active sync; None if no session holds its lock (PostgreSQL)."""
    high, low = divmod(LOCK % 2**64, 2**32)
    row = connection.execute(_HOLDS, {"high": high, "low": low}).first()
    return None if row is None else ActiveSync(row.backend_start)


class ConnectionLost(Exception):
    """The connection is closed, so the lock is released."""


class Writer:
    """A connection, opened when it is needed. For one thread."""

    def __init__(self, url: Secret) -> None:
        # No pool: a connection that is closed must be gone, and its lock with it.
        self.engine = create_engine(url, poolclass=NullPool, connect_args={"application_name": "spoke-jobs sync"})
        """For reads on other connections."""
        self._patience = LockPatience()
        self._connection: Connection | None = None
        self._leads = False

    def lead(self) -> bool:
        """Become the active sync if there is none; return whether this is the active one.

        :raises spoke_jobs.errors.DatabaseError: if the database can't be reached, or isn't migrated.
        :raises ConnectionLost: if the connection is gone.
        """
        if self._leads:
            return True
        if self._connection is None:
            check_schema(self.engine)
        with self.transaction() as connection:
            self._leads = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}))
        return self._leads

    def foreign_holder(self) -> str:
        """Name who holds the lock of the active sync without being one; empty if nobody does.

        Any role that may connect to the database can take an advisory lock. A role that may not write what sync writes
        is not sync's.

        :raises ConnectionLost: if the connection is gone.
        """
        high, low = divmod(LOCK % 2**64, 2**32)
        with self.transaction() as connection:
            row = connection.execute(_FOREIGN_HOLDER, {"high": high, "low": low, "table": _OWN_TABLE}).first()
        if row is None:
            return ""
        return (
            f"the database role {row.usename!r} (server process {row.pid}, application {row.application_name!r}) holds "
            f"sync's advisory lock, but is no sync; end it with: SELECT pg_terminate_backend({row.pid})"
        )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction on the connection.

        :raises ConnectionLost: if the connection breaks. The transaction may or may not be committed.
        """
        connection = self._connection or self._open()
        try:
            with connection.begin():
                if self._patience.impatient:
                    limit_waits(connection, self._patience.seconds)
                yield connection
                if has_timed_out(connection):
                    self._patience.timed_out()
            send_requested(connection)
        except Exception as error:  # also after an error of another kind, the next use would connect without the lock
            if is_locked(error):
                self._patience.timed_out()
            broke = isinstance(error, DBAPIError) and error.connection_invalidated
            if connection.invalidated or connection.closed or broke:
                self.close()
                reason = reason_of(error) if isinstance(error, DBAPIError) else type(error).__name__
                raise ConnectionLost(f"the connection to the database broke: {reason}") from error
            raise

    def close(self) -> None:
        """Close the connection, which releases the lock."""
        connection, self._connection, self._leads = self._connection, None, False
        if connection is not None:
            with suppress(DBAPIError):
                connection.close()

    def _open(self) -> Connection:
        try:
            connection = self.engine.connect()
            with connection.begin():
                for statement in (*_TIMEOUTS, *_KEEPALIVES):
                    connection.execute(text(statement))
        except DBAPIError as error:
            raise ConnectionLost(f"the database can't be reached: {reason_of(error)}") from error
        self._connection = connection
        return connection
