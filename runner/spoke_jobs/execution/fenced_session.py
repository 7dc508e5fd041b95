"""A session whose every commit counts only while its owner still may write."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, SessionTransaction

from spoke_jobs.ledger.port import SessionFactory

Fence = Callable[[Session], None]
"""Called in the session's transaction, before its commit: locks the claim, or raises ``Superseded``."""


class FencedSession:
    """Made when it is first asked for."""

    def __init__(self, sessions: SessionFactory, fence: Fence) -> None:
        self._sessions = sessions
        self._fence = fence
        self._fenced = False
        self.used: Session | None = None
        """The session, if it was asked for."""
        self.over = False
        """Whether the owner's end stands in the session's transaction: that has checked the claim."""

    def get(self) -> Session:
        """The session."""
        if self.used is None:
            self.used = self._sessions()
            event.listen(self.used, "after_begin", self._on_begin)
            event.listen(self.used, "before_commit", self._on_before_commit)
        return self.used

    def close(self) -> None:
        """Roll back and let go of what was not committed, and of the session: its connection may be others' as well."""
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
        # The claim is locked last, so that heartbeats wait for no longer than the commit takes.
        if not self.over and not session.in_nested_transaction():
            session.flush()
            self._check(session)

    def _on_commit(self, _connection: Connection) -> None:
        # The root may be committed with a SAVEPOINT open, which the session's own event doesn't tell from its release.
        if not self.over and not self._fenced and self.used is not None:
            self._check(self.used)

    def _check(self, session: Session) -> None:
        self._fence(session)
        self._fenced = True
