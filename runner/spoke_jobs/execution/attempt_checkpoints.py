"""What a running attempt saves for later ones: its checkpoint, and the results of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Connection, event

from spoke_jobs.errors import InvalidCheckpoint

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from spoke_jobs.ledger.sql_attempts import SqlAttempts


STEP_NAME_LIMIT = 100


class Checkpoints:
    """The saved values of one job, as its running attempt sees them.

    Values are written in the session's commit, right after the claim is locked. Until then they are kept here. If they
    were written at once, their row would be locked until the commit, and a process that hangs in its transaction would
    block the one that has taken over its job.
    """

    def __init__(self, ledger: SqlAttempts, job_id: int, token: UUID) -> None:
        self._ledger = ledger
        self._job_id = job_id
        self._token = token
        self._stored: dict[str, str] | None = None
        """The committed values by name; None if they must be read."""
        self._pending: list[tuple[str, str]] = []
        """The values of the session's open transaction, oldest first."""
        self._connection: Connection | None = None
        """The connection of that transaction."""
        self._savepoints: list[int] = []
        """How many values were pending when each open SAVEPOINT was set. SQLAlchemy ends the innermost one first."""
        self._steps: set[str] = set()
        """The steps that this attempt has begun."""

    @property
    def pending(self) -> bool:
        """Whether there are values to write."""
        return bool(self._pending)

    def get(self, name: str) -> str | None:
        """Return the value of that name, as the session's open transaction sees it; None if there is none."""
        for saved, value in reversed(self._pending):
            if saved == name:
                return value
        if self._stored is None:
            self._stored = {saved.name: saved.value for saved in self._ledger.saved(self._job_id)}
        return self._stored.get(name)

    def put(self, session: Session, name: str, value: str) -> None:
        """Save a value with the session's next commit. A rollback, also one to a SAVEPOINT, undoes it."""
        connection = session.connection()
        if connection is not self._connection:
            self._forget()
            self._connection = connection
            event.listen(connection, "savepoint", self._on_savepoint)
            event.listen(connection, "rollback_savepoint", self._on_rollback_savepoint)
            event.listen(connection, "release_savepoint", self._on_release_savepoint)
            event.listen(connection, "rollback", self._on_rollback)
        self._pending.append((name, value))

    def put_at_once(self, name: str, value: str) -> None:
        """Save a value in a transaction of its own.

        :raises Superseded: if another process has taken over.
        """
        self._ledger.save(None, self._token, {name: value})
        self._stored = None

    def write(self, session: Session) -> None:
        """Write the values in the session's transaction, and lock the claim until its end.

        :raises Superseded: if another process has taken over.
        """
        self._ledger.save(session, self._token, dict(self._pending))
        self._forget()
        self._stored = None  # whether the commit succeeds is unknown

    def begin_step(self, name: str) -> None:
        """Note that a step begins.

        :raises InvalidCheckpoint: if its name can't be used.
        """
        given: object = name
        if not isinstance(given, str) or not given or len(given) > STEP_NAME_LIMIT or not given.isprintable():
            raise InvalidCheckpoint(
                f"a step's name is printable text of 1 to {STEP_NAME_LIMIT} characters, not {name!r:.120}"
            )
        if name in self._steps:
            raise InvalidCheckpoint(
                f"the step {name!r} was called twice in this attempt: give each step of a job a name of its own "
                "(in a loop, add the item's id to the name)"
            )
        self._steps.add(name)

    def step_failed(self, name: str) -> None:
        """Note that a step has not ended, so the attempt may call it again."""
        self._steps.discard(name)

    def _forget(self) -> None:
        self._pending.clear()
        self._savepoints.clear()

    def _on_savepoint(self, _connection: Connection, _name: str) -> None:
        self._savepoints.append(len(self._pending))

    def _on_rollback_savepoint(self, _connection: Connection, _name: str, _context: Any) -> None:
        # A SAVEPOINT of which nothing is known was set before the transaction's first value.
        del self._pending[self._savepoints.pop() if self._savepoints else 0 :]

    def _on_release_savepoint(self, _connection: Connection, _name: str, _context: Any) -> None:
        if self._savepoints:
            self._savepoints.pop()

    def _on_rollback(self, _connection: Connection) -> None:
        self._forget()
