"""The signal handlers, the blocked signals and the timers of a child process, which its jobs may change."""

from __future__ import annotations

import logging
import signal

logger = logging.getLogger(__name__)

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
"""`signal.alarm` sets the first."""
_OF_TIMERS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
_KEPT = (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, *_OF_TIMERS)
"""The signals whose handlers are restored: a library may set others once, at its first use."""


class SignalState:
    """What a child of ``def`` jobs restores after each attempt. Create and use it in the main thread.

    A timer that a job left behind would end the child's next job, and a handler or a blocked signal would keep
    cancellations from it.
    """

    def __init__(self) -> None:
        self._handlers = {number: signal.getsignal(number) for number in _KEPT}
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def restore(self) -> None:
        """Stop all timers, and restore the handlers and the blocked signals."""
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        for number, handler in self._handlers.items():
            if signal.getsignal(number) is not handler and handler is not None:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)


def ignore_timers() -> None:
    """Let the timers that a job of an event loop leaves behind do nothing, instead of ending all its jobs.

    A handler is not inherited by the programs that a job starts, as an ignored signal would be.
    """
    for number in _OF_TIMERS:
        signal.signal(number, lambda number, _: logger.warning("ignored %s", signal.Signals(number).name))
