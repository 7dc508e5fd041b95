"""How much later than the tokens of rates allow a process starts attempts, if it can't start them in time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from spoke_jobs.model import Claim

logger = logging.getLogger(__name__)

_LATE_IN_A_ROW = 5
"""Claims. One stop of the process makes all attempts of a claim late."""
_SMALLEST_SECONDS, _LARGEST_SECONDS = 0.1, 30.0
_KEPT = 0.99
"""Which part of the extra time a start in time leaves."""
_WARNING_SECONDS = 60.0


class StartAllowance:
    """The extra time that a process grants each attempt to start, on top of :attr:`spoke_jobs.model.Claim.start_by`.

    It is 0 as long as attempts start in time. A process that is always late would otherwise start no job, and give all
    of them back for ever.

    :param clock: the monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.seconds = 0.0
        self._late = 0
        """Of how many claims in a row attempts were too late, and none was in time."""
        self._counted = -math.inf
        """When the last claim that counted was asked for."""
        self._grew_at = self._warned_at = -math.inf

    def start_by(self, claim: Claim) -> float:
        """Return until when the attempt may start; infinity if no rate bounds that."""
        return claim.start_by + self.seconds

    def in_time(self, start_by: float) -> None:
        """Note that an attempt started in time, unless it had any time."""
        if start_by < math.inf:
            self._late = 0
            self.seconds *= _KEPT
            if self.seconds < 0.001:
                self.seconds = 0.0

    def late(self, start_by: float, asked_at: float | None) -> None:
        """Note that an attempt was too late to start, now.

        :param asked_at: see :class:`spoke_jobs.model.Claim`. A claim counts once. What was claimed before the last
            growth had less time, and does not count.
        """
        if asked_at is not None:
            if asked_at <= self._counted or asked_at < self._grew_at:
                return
            self._counted = asked_at
        self._late += 1
        if self._late < _LATE_IN_A_ROW:
            return
        self._late = 0
        self._grew_at = now = self._clock()
        self.seconds = min(max(_SMALLEST_SECONDS, 2 * self.seconds), _LARGEST_SECONDS)
        if now < self._warned_at + _WARNING_SECONDS:
            return
        self._warned_at = now
        late = now - start_by
        logger.warning(
            "no job of %d claims in a row was started in time for its rate, the last one %.2f s too late; "
            "jobs may now start %.2f s later, so that they start at all. Give the worker more processor time, or fewer "
            "slots: see docs/how-to/limits.md",
            _LATE_IN_A_ROW,
            late,
            self.seconds,
            extra={"late_seconds": round(late, 2), "allowance_seconds": round(self.seconds, 2)},
        )
