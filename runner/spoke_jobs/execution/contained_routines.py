"""Contain the unexpected errors of the routines of a loop.

An error that one row or one limit causes must not end a process that works for all jobs. Each routine fails alone: it
is repeated after a wait, and the loop's other routines run meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from spoke_jobs.ledger.engine import is_locked
from spoke_jobs.shared.backoff import Backoff

_BACKOFF = Backoff(base=0.5, maximum=10.0)
_REMIND_SECONDS = 600.0
"""An error that a routine raises again is logged again after this long. In between it is logged at level DEBUG."""

Returned = TypeVar("Returned")


@dataclass(frozen=True, slots=True)
class _Failing:
    count: int
    until: float


class ContainedRoutines:
    """The routines of one loop, by name.

    :param raised: the errors that are not contained: those that the loop handles itself, and those that must end it.
        A lock that another transaction holds is contained in any case.
    :param count: called for each error that is contained.
    :param clock: the monotonic clock, in seconds.
    """

    def __init__(
        self,
        logger: logging.Logger,
        raised: tuple[type[Exception], ...],
        count: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._raised = raised
        self._count = count
        self._clock = clock
        self._failing: dict[str, _Failing] = {}
        self._logged: dict[tuple[str, str], float] = {}

    @property
    def failing(self) -> bool:
        """Whether the last call of a routine raised an error."""
        return bool(self._failing)

    def due_in(self, name: str) -> float:
        """Seconds until :meth:`call` calls the routine again."""
        failing = self._failing.get(name)
        return 0.0 if failing is None else max(0.0, failing.until - self._clock())

    def call(self, name: str, routine: Callable[[], Returned], otherwise: Returned) -> Returned:
        """Call a routine. Return ``otherwise`` if it raises an unexpected error, or waits after one.

        :param name: completes the log line "unexpected error while the process ...".
        """
        if self.due_in(name):
            return otherwise
        try:
            returned = routine()
        except Exception as error:
            if isinstance(error, self._raised) and not is_locked(error):
                raise
            self._failed(name, error)
            return otherwise
        self._failing.pop(name, None)
        return returned

    def _failed(self, name: str, error: Exception) -> None:
        self._count()
        now = self._clock()
        old = self._failing.get(name)
        count = old.count + 1 if old is not None else 1
        self._failing[name] = _Failing(count, now + _BACKOFF.after(count))
        kind = type(error).__name__
        logged_at = self._logged.get((name, kind))
        known = logged_at is not None and now < logged_at + _REMIND_SECONDS
        if not known:
            self._logged[name, kind] = now
        self._logger.log(
            logging.DEBUG if known else logging.ERROR,
            "unexpected error (%s) while the process %s; retrying",
            kind,
            name,
            exc_info=error,
        )
