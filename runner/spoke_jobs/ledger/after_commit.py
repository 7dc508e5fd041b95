"""Effects of a dispatch in the caller's session. They run after the root transaction's commit; errors are only logged.

SQLAlchemy's ``after_commit`` also fires when a SAVEPOINT is released, and, for a session joined to a connection's
outer transaction, before that transaction commits. The session's events therefore only start a check. An effect
runs once its row is visible on another connection, which proves the commit. If an effect is missed (the outer
transaction commits much later, or the process dies), the worker or sync finds the row.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, Transaction, event

from spoke_jobs.ledger.tables import job_request

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, SessionTransaction

logger = logging.getLogger(__name__)

_KEY = "spoke_jobs.after_commit"
_CHECK_DELAYS = (0.0, 0.01, 0.05, 0.2, 1.0)
"""Seconds to wait before each check for a row whose outer transaction is about to commit."""
_WAIT_SECONDS = 5.0

Undo = Callable[[], object]
Rows = Sequence[Any]
"""The rows that an effect is for."""
Effect = Callable[[Rows], object]
"""Called with the committed rows, or with all rows that the session wrote if the effect itself checks them."""
Visible = Callable[[Rows], Rows]
"""Selects the rows that are visible outside the caller's transaction."""


@dataclass(frozen=True, slots=True)
class _Pending:
    rows: Rows
    effect: Effect
    visible: Visible
    connection: Connection
    savepoints: tuple[SessionTransaction, ...]
    """The SAVEPOINTs open at the dispatch: if one is rolled back, so is the row."""
    background: bool
    undo: Undo | None
    checks_rows: bool
    outer: Transaction | None = None
    """The connection's transaction, if it is still open after the session's commit."""


@dataclass(slots=True)
class _Effects:
    """The effects of a session's current root transaction."""

    pending: list[_Pending] = field(default_factory=list)
    committed: bool = False


def plain_session(session: Session) -> Session:
    """Return the session, or the current thread's session of a ``scoped_session``."""
    from sqlalchemy.orm import scoped_session  # loaded already: the caller has a session

    given: Any = session
    return given() if isinstance(given, scoped_session) else session


def after_commit(
    session: Session,
    visible: Callable[[], bool],
    effect: Callable[[], object],
    *,
    background: bool = False,
    undo: Undo | None = None,
    rows: Rows = (None,),
) -> None:
    """Run ``effect`` once the session's writes are committed. Do not run it if they are rolled back.

    It runs in the committing thread, after the session and its connection are free again. With ``background``, or if
    the session has joined an outer transaction, it runs in a thread of its own.

    :param visible: whether the writes are visible outside the caller's transaction.
    :param undo: reverts the effect. With it, the effect runs after the session's commit even if the session has joined
        an outer transaction. If the outer transaction is rolled back, ``undo`` runs.
    :param rows: the rows that the effect is for, for :func:`pending_rows`.
    """
    _follow(
        session,
        rows,
        lambda rows: rows if visible() else (),
        lambda _: effect(),
        background=background,
        undo=undo,
    )


def pending_rows(session: Session) -> list[Any]:
    """Return the rows whose effects wait for the commit of the session's current transaction."""
    effects: _Effects | None = session.info.get(_KEY)
    return [] if effects is None else [row for item in effects.pending for row in item.rows]


def launch_after_commit(
    session: Session,
    rows: Rows,
    visible: Visible,
    launch: Effect,
    *,
    background: bool = False,
    checks_rows: bool = False,
) -> None:
    """Call ``launch`` after the commit, as :func:`after_commit` does. One call gets all rows of one transaction.

    :param checks_rows: whether ``launch`` never blocks and checks each row itself. It is then called as soon as the
        session has committed, in the committing thread even with ``background``.
    """
    _follow(session, rows, visible, launch, background=background, checks_rows=checks_rows)


def _follow(
    session: Session,
    rows: Rows,
    visible: Visible,
    effect: Effect,
    *,
    background: bool,
    undo: Undo | None = None,
    checks_rows: bool = False,
) -> None:
    savepoints = tuple(_savepoints(session.get_nested_transaction()))
    connection = connection_of(session)
    item = _Pending(rows, effect, visible, connection, savepoints, background, undo, checks_rows)
    _effects(session).pending.append(item)


def connection_of(session: Session) -> Connection:
    """Return the session's connection to the ledger's tables, in its current transaction."""
    return session.connection(bind_arguments={"clause": job_request})


def run_safely(effect: Undo) -> None:
    """Run an effect and log what it raises: the caller's transaction is already committed."""
    try:
        effect()
    except Exception:
        logger.exception(
            "an effect after the commit failed; the job is in the ledger, and a worker or sync will find it"
        )


def _effects(session: Session) -> _Effects:
    found: _Effects | None = session.info.get(_KEY)
    if found is None:
        found = session.info[_KEY] = _Effects()
        event.listen(session, "after_commit", _on_commit)
        event.listen(session, "after_soft_rollback", _on_rollback)
        event.listen(session, "after_transaction_end", _on_end)
    return found


def _savepoints(transaction: SessionTransaction | None) -> Iterator[SessionTransaction]:
    while transaction is not None:
        if transaction.nested:
            yield transaction
        transaction = transaction.parent


def _on_commit(session: Session) -> None:
    if not session.in_nested_transaction():  # otherwise a SAVEPOINT was released and the root is still open
        session.info[_KEY].committed = True


def _on_rollback(session: Session, previous: SessionTransaction) -> None:
    # A flush that fails rolls back its own transaction, and the SAVEPOINT or the root that contains it.
    rolled_back = previous
    while not rolled_back.nested and rolled_back.parent is not None:
        rolled_back = rolled_back.parent
    effects: _Effects = session.info[_KEY]
    effects.pending = [item for item in effects.pending if rolled_back.nested and rolled_back not in item.savepoints]


def _on_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is not None:
        return
    effects: _Effects = session.info[_KEY]
    ready = effects.pending if effects.committed else []  # closed without a commit, so rolled back
    session.info[_KEY] = _Effects()
    for item in _merged(ready):
        if not item.connection.closed and item.connection.in_transaction():
            _await_outer(item)
        elif item.checks_rows:
            run_safely(partial(item.effect, item.rows))
        elif item.background:
            run_safely(partial(_check_in_thread, item))
        else:
            _run_if_visible(item, _CHECK_DELAYS[:1])


def _merged(items: Iterable[_Pending]) -> list[_Pending]:
    """Merge the items of each effect, so that all dispatches of a transaction are launched together."""
    alike: dict[tuple[object, ...], list[_Pending]] = {}
    for item in items:
        key = (item.effect, item.visible, item.connection, item.background, item.undo, item.checks_rows, item.outer)
        alike.setdefault(key, []).append(item)
    return [replace(group[0], rows=[row for item in group for row in item.rows]) for group in alike.values()]


_outer: WeakKeyDictionary[Connection, list[_Pending]] = WeakKeyDictionary()
"""By connection: the effects that wait for its outer transaction, or that are undone if it is rolled back. Each
connection gets its listeners once, because SQLAlchemy cannot remove a listener while calling it."""


_threads: WeakSet[threading.Thread] = WeakSet()
_threads_lock = threading.Lock()


def _reset_after_fork() -> None:
    """Replace the threads, which do not exist in a forked child, and the lock, which one of them may have held."""
    global _threads, _threads_lock
    _threads, _threads_lock = WeakSet(), threading.Lock()


os.register_at_fork(after_in_child=_reset_after_fork)


def wait_for_outer_commits() -> None:
    """Wait until the effects of committed outer transactions have run, for a few seconds at most."""
    deadline = time.monotonic() + _WAIT_SECONDS
    with _threads_lock:
        threads = list(_threads)
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _await_outer(item: _Pending) -> None:
    """Wait for the connection's commit or rollback: the transaction is still open after the session's commit."""
    if item.undo is not None:
        run_safely(partial(item.effect, item.rows))
    connection = item.connection
    waiting = _outer.get(connection)
    if waiting is None:
        waiting = _outer[connection] = []
        for name in ("commit", "commit_twophase"):
            event.listen(connection, name, _on_outer_commit)
        for name in ("rollback", "rollback_twophase"):
            event.listen(connection, name, _on_outer_rollback)
    waiting.append(replace(item, outer=connection.get_transaction()))


def _on_outer_commit(connection: Connection, *_: Any) -> None:
    # This is called just before the commit. Check from another thread, which sees the rows once they are committed.
    waiting = _outer[connection]
    ready, waiting[:] = list(waiting), []
    for item in _merged(ready):
        if item.undo is None:
            run_safely(partial(_check_in_thread, item))


def _on_outer_rollback(connection: Connection, *_: Any) -> None:
    waiting = _outer[connection]
    ended, waiting[:] = list(waiting), []
    for item in ended:
        if item.undo is not None:
            run_safely(item.undo)


def _check_in_thread(item: _Pending) -> None:
    thread = threading.Thread(
        target=_run_if_visible, args=(item, _CHECK_DELAYS), name="spoke-after-commit", daemon=True
    )
    with _threads_lock:
        thread.start()
        _threads.add(thread)


def _run_if_visible(item: _Pending, delays: tuple[float, ...]) -> None:
    def check() -> None:
        left = item.rows
        for seconds in delays:
            time.sleep(seconds)
            if item.outer is not None and item.outer.is_active:
                continue
            # Some rows may be visible before the commit: for a unique key in use, the row is another transaction's.
            seen = item.visible(left)
            if seen:
                item.effect(seen)
            done = {id(row) for row in seen}
            left = [row for row in left if id(row) not in done]
            if not left:
                return

    run_safely(check)
