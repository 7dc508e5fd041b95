"""A session that can commit only while its owner holds the claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection, event

from spoke_jobs.ledger.port import SessionFactory

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, SessionTransaction

Fence = Callable[["Session"], None]
"""Called in the session's transaction, before its commit: locks the claim, or raises ``Superseded``."""


class FencedSession:
    """Opens the session when it is first used, and checks the claim in each of its commits."""

    def __init__(self, sessions: SessionFactory, fence: Fence) -> None:
        self._sessions = sessions
        self._fence = fence
        self._fenced = False
        self.used: Session | None = None
        """The session, if it was used."""
        self.over = False
        """Whether the session's transaction records the owner's end. Recording the end has checked the claim."""

    def get(self) -> Session:
        """The session; opened at the first call."""
        if self.used is None:
            self.used = self._sessions()
            event.listen(self.used, "after_begin", self._on_begin)
            event.listen(self.used, "before_commit", self._on_before_commit)
        return self.used

    def close(self) -> None:
        """Roll back uncommitted writes and close the session, which returns its connection to the pool."""
        if self.used is not None:
            try:
                self.used.close()
            finally:
                self.used = None

    def _on_begin(self, session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        if not transaction.nested:
            self._fenced = False
            if not event.contains(connection, "commit", self._on_commit):
                event.listen(connection, "commit", self._on_commit)

    def _on_before_commit(self, session: Session) -> None:
        # Lock the claim last, so that a heartbeat waits no longer than the commit takes.
        if not self.over and not session.in_nested_transaction():
            session.flush()
            self._check(session)

    def _on_commit(self, _connection: Connection) -> None:
        # While a SAVEPOINT is open, `before_commit` skips the check: it cannot tell the root's commit from a release.
        if not self.over and not self._fenced and self.used is not None:
            self._check(self.used)

    def _check(self, session: Session) -> None:
        self._fence(session)
        self._fenced = True
