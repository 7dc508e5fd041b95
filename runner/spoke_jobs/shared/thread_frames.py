"""What each thread of this process executes now."""

from __future__ import annotations

import os
import sys
import threading
from types import FrameType

from spoke_jobs.shared import garbage_collection

_MAY_DEADLOCK = sys.version_info < (3, 12)
"""Before Python 3.12, ``sys._current_frames`` may collect garbage while it holds the lock of the list of threads. If a
finalizer runs then, another thread gets the GIL; if that one starts or ends a thread, it waits for the list, with the
GIL held: the process stands still for ever, and no timeout of its own can end that (cpython gh-106883).
"""
_lock = threading.Lock()
"""No call turns garbage collection on while another one needs it off."""


def current_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread, by the thread's ident."""
    if not _MAY_DEADLOCK:
        return sys._current_frames()
    with _lock, garbage_collection.paused():
        return sys._current_frames()


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_new_lock)  # a thread that the child does not have may hold it
