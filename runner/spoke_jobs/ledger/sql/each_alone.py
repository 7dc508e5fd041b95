"""Change several rows in one transaction. A row that can't be changed does not affect the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select
from sqlalchemy.exc import DBAPIError, OperationalError

from spoke_jobs.ledger.engine import is_locked
from spoke_jobs.ledger.sql.lock_patience import wait_no_more

_BATCHES = 20
"""How many batches of rows one call examines, if many rows can't be changed."""
_SECONDS = 2.0
"""How long one call goes on. The rest is left to the next call, so that the process gets to its other work."""

logger = logging.getLogger(__name__)
R = TypeVar("R")


def change_each(
    connection: Connection,
    rows: Select[Any],
    key: ColumnElement[Any],
    limit: int,
    change: Callable[[Row[Any]], R | None],
    seconds: float | None = None,
) -> list[R]:
    """Change up to ``limit`` rows, each in a savepoint of its own. Return the results.

    Rows that can't be changed do not count towards the limit. Otherwise ``limit`` of them would keep the rows behind
    them from ever being changed, because the next call finds them again.

    :param rows: selects the rows, in their order. Its first column is ``key``.
    :param change: changes a row. It returns None if it can't.
    :param seconds: begin with no other row after this long, whatever was changed: the caller continues behind the last
        one next time. By default, only if a row has been changed, because the next call begins with the same rows.
    :raises DBAPIError: if the database is unavailable or the transaction has to be repeated.
    """
    done: list[R] = []
    failed: list[Any] = []
    until = time.monotonic() + (_SECONDS if seconds is None else seconds)

    def over() -> bool:
        begun = bool(done) or (seconds is not None and bool(failed))
        return begun and time.monotonic() > until

    for _ in range(_BATCHES):
        wanted = limit - len(done)
        others = rows.where(key.not_in(failed)) if failed else rows
        found = connection.execute(others.limit(wanted)).all()
        for row in found:
            if over():
                break
            result = change_alone(connection, partial(change, row), trace=not failed)
            if result is None:
                failed.append(row[0])
            else:
                done.append(result)
        if len(found) < wanted or len(done) == limit or over():
            break
    if failed:
        logger.error("%d rows can't be changed, and the others are; %s of the first: %s", len(failed), key, failed[0])
    return done


def change_alone(connection: Connection, change: Callable[[], R | None], *, trace: bool = True) -> R | None:
    """Make a change in a savepoint. Return its result; None if it fails. An error undoes only this change.

    A row that another transaction has locked for longer than the ``lock_timeout`` fails alone, too.

    :param trace: whether an error is logged.
    :raises DBAPIError: if the database is unavailable or the transaction has to be repeated.
    """
    try:
        with connection.begin_nested():
            return change()
    except Exception as error:
        if is_locked(error):
            wait_no_more(connection)
            if trace:
                logger.warning("another transaction has locked a row; left for later")
            return None
        if isinstance(error, OperationalError) or (isinstance(error, DBAPIError) and error.connection_invalidated):
            raise
        if trace:  # of many rows only for one, since all probably fail for the same reason
            logger.exception("unexpected error in one row")
        return None
