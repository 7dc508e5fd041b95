"""How long a process that works for all jobs waits for a row that another transaction has locked (PostgreSQL).

A job's own transaction may lock rows for long, and many of them. Such a process waits three seconds once. Then it is
impatient for half a minute: it leaves a locked row for later at once. So it spends a tenth of its time on waits,
however many rows are locked.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, text

LOCK_TIMEOUT_SECONDS = 3.0
_IMPATIENT_SECONDS = 0.002
_IMPATIENT_FOR_SECONDS = 30.0
_SET = text("SELECT set_config('lock_timeout', :most, true)")
_TIMED_OUT = "spoke_lock_timed_out"


class LockPatience:
    """What one process has waited.

    :param seconds: the longest wait.
    :param clock: the monotonic clock, in seconds.
    """

    def __init__(self, seconds: float = LOCK_TIMEOUT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._impatient_until = 0.0

    @property
    def impatient(self) -> bool:
        """Whether a wait was in vain within the last half minute."""
        return self._clock() < self._impatient_until

    @property
    def seconds(self) -> float:
        """The longest wait now."""
        return _IMPATIENT_SECONDS if self.impatient else self._seconds

    def timed_out(self) -> None:
        """Record that a wait was in vain."""
        self._impatient_until = self._clock() + _IMPATIENT_FOR_SECONDS


def limit_waits(connection: Connection, seconds: float) -> None:
    """Let each statement of the transaction wait so long for a lock, at most."""
    connection.execute(_SET, {"most": f"{max(1, round(seconds * 1000))}ms"})


def wait_no_more(connection: Connection) -> None:
    """Let the transaction's further statements leave locked rows at once, because one has waited in vain."""
    connection.info[_TIMED_OUT] = True
    limit_waits(connection, _IMPATIENT_SECONDS)


def has_timed_out(connection: Connection) -> bool:
    """Return whether :func:`wait_no_more` was called for the connection since the last call."""
    return bool(connection.info.pop(_TIMED_OUT, False))
