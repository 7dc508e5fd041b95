"""Effects of a dispatch in the caller's session: only after the root transaction's commit, never raising into it.

SQLAlchemy's ``after_commit`` also fires when a SAVEPOINT is released, and, for a session joined to a connection's
outer transaction, before that one commits. So the session's events say when to look, and what is looked for is the
row itself, on a connection of our own: whoever sees it knows that it is committed. An effect that could not be had
(the outer transaction commits much later, the process dies) is left to the worker or to sync, which find the row.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, Transaction, event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from spoke_jobs.ledger.tables import job_request

logger = logging.getLogger(__name__)

_KEY = "spoke_jobs.after_commit"
_LOOKS = (0.0, 0.01, 0.05, 0.2, 1.0)
"""Seconds to wait before each look for a row whose outer transaction is about to commit."""
_PATIENCE_SECONDS = 5.0

Undo = Callable[[], object]
Rows = Sequence[Any]
"""What an effect is about."""
Effect = Callable[[Rows], object]
"""Called with those rows that are committed; one that looks itself, with all that the session wrote."""
Visible = Callable[[Rows], Rows]
"""Which of the rows can be seen from outside the caller's transaction."""


@dataclass(frozen=True, slots=True)
class _Pending:
    rows: Rows
    effect: Effect
    visible: Visible
    connection: Connection
    savepoints: tuple[SessionTransaction, ...]
    """The SAVEPOINTs that were open at the dispatch: if one is rolled back, so is the row."""
    background: bool
    undo: Undo | None
    looks_itself: bool
    outer: Transaction | None = None
    """The connection's own transaction, where the session's commit was none."""


@dataclass(slots=True)
class _Effects:
    """What hangs on a session's present root transaction."""

    pending: list[_Pending] = field(default_factory=list)
    committed: bool = False


def plain_session(session: Session) -> Session:
    """The session itself, where a ``scoped_session`` stands for the thread's own."""
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
    """Run ``effect`` once what the session has written is committed, and not at all if it is rolled back.

    It runs in the committing thread, when the session and its connection are free again; where the session is joined
    to an outer transaction, or with ``background``, in a thread of its own.

    :param visible: whether what was written can be seen from outside the caller's transaction.
    :param undo: for effects that can be taken back. The session's own commit then counts, also where it is joined to
        an outer transaction; should that one be rolled back, ``undo`` runs.
    :param rows: what the effect is about, for :func:`pending_rows`.
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
    """Return the rows whose effects wait for the commit of the session's present transaction."""
    effects: _Effects | None = session.info.get(_KEY)
    return [] if effects is None else [row for item in effects.pending for row in item.rows]


def launch_after_commit(
    session: Session,
    rows: Rows,
    visible: Visible,
    launch: Effect,
    *,
    background: bool = False,
    looks_itself: bool = False,
) -> None:
    """The same for rows to be launched. What one transaction asks of the same ``launch`` is done in one call.

    :param looks_itself: whether ``launch`` never waits, and looks for each row before it does anything about it. It is
        then called at once when the session has committed, in the committing thread also with ``background``.
    """
    _follow(session, rows, visible, launch, background=background, looks_itself=looks_itself)


def _follow(
    session: Session,
    rows: Rows,
    visible: Visible,
    effect: Effect,
    *,
    background: bool,
    undo: Undo | None = None,
    looks_itself: bool = False,
) -> None:
    savepoints = tuple(_savepoints(session.get_nested_transaction()))
    connection = connection_of(session)
    item = _Pending(rows, effect, visible, connection, savepoints, background, undo, looks_itself)
    _effects(session).pending.append(item)


def connection_of(session: Session) -> Connection:
    """The connection by which the session reaches the ledger's tables, in its present transaction."""
    return session.connection(bind_arguments={"clause": job_request})


def run_safely(effect: Undo) -> None:
    """Run an effect; what it raises is logged: the caller's transaction is committed and can't fail any more."""
    try:
        effect()
    except Exception:
        logger.exception("what follows the commit failed; a job stands in the ledger, where it is looked for again")


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
    if not session.in_nested_transaction():  # else a SAVEPOINT was released: the root is still open
        session.info[_KEY].committed = True


def _on_rollback(session: Session, previous: SessionTransaction) -> None:
    # A flush that fails rolls a transaction of its own back, and with it the SAVEPOINT or the root that it is in.
    rolled_back = previous
    while not rolled_back.nested and rolled_back.parent is not None:
        rolled_back = rolled_back.parent
    effects: _Effects = session.info[_KEY]
    effects.pending = [item for item in effects.pending if rolled_back.nested and rolled_back not in item.savepoints]


def _on_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is not None:
        return
    effects: _Effects = session.info[_KEY]
    ready = effects.pending if effects.committed else []  # closed without a commit: rolled back
    session.info[_KEY] = _Effects()
    for item in _merged(ready):
        if not item.connection.closed and item.connection.in_transaction():
            _await_outer(item)
        elif item.looks_itself:
            run_safely(partial(item.effect, item.rows))
        elif item.background:
            run_safely(partial(_look_in_a_thread, item))
        else:
            _run_if_visible(item, looks=_LOOKS[:1])


def _merged(items: Iterable[_Pending]) -> list[_Pending]:
    """One for each effect: a thousand dispatches of a transaction are launched together."""
    alike: dict[tuple[object, ...], list[_Pending]] = {}
    for item in items:
        key = (item.effect, item.visible, item.connection, item.background, item.undo, item.looks_itself, item.outer)
        alike.setdefault(key, []).append(item)
    return [replace(group[0], rows=[row for item in group for row in item.rows]) for group in alike.values()]


_outer: WeakKeyDictionary[Connection, list[_Pending]] = WeakKeyDictionary()
"""By connection: what waits for its outer transaction, or is taken back with it. Listened to once a connection, since
listeners can't be taken off while they are called."""


_looking: WeakSet[threading.Thread] = WeakSet()
_looking_lock = threading.Lock()


def _begin_anew() -> None:
    """A forked child has none of the threads, and may have inherited the lock as one of them held it."""
    global _looking, _looking_lock
    _looking, _looking_lock = WeakSet(), threading.Lock()


os.register_at_fork(after_in_child=_begin_anew)


def wait_for_outer_commits() -> None:
    """Wait until effects whose outer transaction has committed have run, but no longer than some seconds in all."""
    give_up = time.monotonic() + _PATIENCE_SECONDS
    with _looking_lock:
        threads = list(_looking)
    for thread in threads:
        thread.join(max(0.0, give_up - time.monotonic()))


def _await_outer(item: _Pending) -> None:
    """The session's end was not the transaction's: wait for the connection's own commit, or rollback."""
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
    # Called just before the database commits: look from another thread, which sees the row once it has.
    waiting = _outer[connection]
    ready, waiting[:] = list(waiting), []
    for item in _merged(ready):
        if item.undo is None:
            run_safely(partial(_look_in_a_thread, item))


def _on_outer_rollback(connection: Connection, *_: Any) -> None:
    waiting = _outer[connection]
    ended, waiting[:] = list(waiting), []
    for item in ended:
        if item.undo is not None:
            run_safely(item.undo)


def _look_in_a_thread(item: _Pending) -> None:
    thread = threading.Thread(target=_run_if_visible, args=(item, _LOOKS), name="spoke-after-commit", daemon=True)
    with _looking_lock:
        thread.start()
        _looking.add(thread)


def _run_if_visible(item: _Pending, looks: tuple[float, ...]) -> None:
    def look() -> None:
        left = item.rows
        for seconds in looks:
            time.sleep(seconds)
            if item.outer is not None and item.outer.is_active:
                continue
            # A row may be older than the transaction, and the others not be there yet: a unique_key's that was taken.
            seen = item.visible(left)
            if seen:
                item.effect(seen)
            there = {id(row) for row in seen}
            left = [row for row in left if id(row) not in there]
            if not left:
                return

    run_safely(look)
