"""The only connection that sync writes on. Its session holds the lock of the active sync.

If the connection breaks, sync loses the lock and can no longer write.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import DBAPIError

from spoke_jobs.ledger.engine import check_schema, create_engine

logger = logging.getLogger(__name__)

LOCK = 0x5350_4F4B_4553_594E
"""The advisory lock's number, one per database ("SPOKESYN")."""
_TIMEOUTS = ("SET lock_timeout = '3s'", "SET statement_timeout = '20s'")
"""A job's own transaction may lock its row for long. Skip that row for now, so that the others don't wait for it."""
_KEEPALIVES = (
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 20000",
    "SET idle_in_transaction_session_timeout = '20s'",
)
"""Make the server notice soon that sync's node or network is lost. By default the session, which holds the lock, would
outlive the process by hours. The last setting ends the transaction of a frozen process, which may lock rows of pods."""


class ConnectionLost(Exception):
    """The connection is closed, so the lock is released."""


class Writer:
    """A connection, opened when it is needed. For one thread."""

    def __init__(self, url: str) -> None:
        # No pool: a connection that is closed must be gone, and its lock with it.
        self.engine = create_engine(url, poolclass=NullPool, connect_args={"application_name": "spoke-jobs sync"})
        """For reads on other connections."""
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

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction on the connection.

        :raises ConnectionLost: if the connection breaks. The transaction may or may not be committed.
        """
        connection = self._connection or self._open()
        try:
            with connection.begin():
                yield connection
        except DBAPIError as error:
            if connection.invalidated or connection.closed or error.connection_invalidated:
                self.close()
                raise ConnectionLost(f"the connection to the database broke: {type(error.orig).__name__}") from error
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
            raise ConnectionLost(
                f"the database can't be reached: {str(error.orig).strip().partition(chr(10))[0]}"
            ) from error
        self._connection = connection
        return connection
