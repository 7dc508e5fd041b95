"""What each thread of this process executes now."""

from __future__ import annotations

import os
import sys
import threading
from types import FrameType

from spoke_jobs.shared import garbage_collection

_MAY_DEADLOCK = sys.version_info < (3, 12)
"""Before Python 3.12, ``sys._current_frames`` may collect garbage while it holds the lock of the list of threads. If a
finalizer runs then, another thread gets the GIL. If that one starts or ends a thread, it waits for the list with the
GIL held: the process hangs, and no timeout of its own can end that (cpython gh-106883).
"""
_lock = threading.RLock()
"""While one call needs garbage collection off, no other call turns it on, and no child process is forked."""
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def current_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread, by the thread's ident."""
    if not _MAY_DEADLOCK:
        return sys._current_frames()
    with _lock, garbage_collection.paused():
        return sys._current_frames()
