"""Apply the limits whenever a SpokeLimit or a Namespace changes, and when a pause ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial

from spoke_jobs_operator.core.limits.limits import Limits, changed_namespaces, compiled, next_change
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.store.store import Store

from .pacing import Pacer

APPLY_SECONDS = 0.02
"""How long changes are collected: a listing may bring hundreds."""
SHARE_OF_APPLYING = 0.2
"""The most of the time that applying takes: it is costly if one namespace has thousands of SpokeLimits, and whoever may
write SpokeLimits there may change one of them all the time."""
LONGEST_TIMER_SECONDS = 3600.0
logger = logging.getLogger(__name__)


class LimitKeeper:
    """Update the pacer's limits from the settings and the store's SpokeLimits and Namespaces.

    :param base: the settings' limits.
    :param wake: called for each SpokeJob that waits in a namespace whose limits have changed.
    :param later: calls a function after the given number of seconds.
    """

    def __init__(
        self,
        base: Limits,
        store: Store,
        pacer: Pacer,
        *,
        wake: Callable[[Key], None],
        clock: Callable[[], datetime],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._base = base
        self._store = store
        self._pacer = pacer
        self._wake = wake
        self._clock = clock
        self._later = later
        self._is_due = False
        self._took_seconds = 0.0  # the processor time of the last application
        self._timer_at: datetime | None = None
        self._timers = 0
        self.on_error: Callable[[Exception], None] = lambda _error: None
        """Called when an unexpected error was raised."""

    def changed(self) -> None:
        """Apply the limits soon."""
        if not self._is_due:
            self._is_due = True
            self._later(max(APPLY_SECONDS, self._took_seconds / SHARE_OF_APPLYING), self.apply)

    def apply(self) -> None:
        """Compile the limits and, if they differ, apply them. If that raises an error, the earlier limits apply."""
        self._is_due = False
        began = time.thread_time()
        try:
            self._apply()
        except Exception as error:
            self.on_error(error)
        finally:
            self._took_seconds = time.thread_time() - began

    def _apply(self) -> None:
        now = self._clock()
        # First: if the limits can't be compiled, the earlier ones apply. A rate without a bucket has all its tokens.
        self._pacer.begin_rates(self._store.spokelimits)
        limits = compiled(self._base, self._store.spokelimits, self._store.namespaces, now)
        self._set_timer(now)
        changed = changed_namespaces(self._pacer.limits, limits)
        if not changed:
            return
        logger.info("limits or pauses have changed", extra={"namespaces": sorted(changed)[:20]})
        waiting = [item.key for item in self._pacer.waiting() if item.key.namespace in changed]
        self._pacer.set_limits(limits)
        for key in waiting:  # they may wait for something else now
            self._wake(key)

    def _set_timer(self, now: datetime) -> None:
        end = next_change(self._store.spokelimits, now)
        if end is None or end == self._timer_at:
            return
        self._timer_at = end
        self._timers += 1
        wait = min((end - now).total_seconds() + 0.01, LONGEST_TIMER_SECONDS)
        self._later(wait, partial(self._timer_fires, self._timers))

    def _timer_fires(self, number: int) -> None:
        if number == self._timers:  # otherwise a later timer has replaced this one
            self._timer_at = None
            self.apply()
