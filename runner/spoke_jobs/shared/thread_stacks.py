"""The stacks of this process's threads, as text. They contain code, but no values."""

from __future__ import annotations

import os
import sys
import threading
import traceback
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


def stacks_of_others(last: int) -> str:
    """Return the stacks of all threads but the calling one.

    :param last: the ident of the thread whose stack comes last, where it is not cut off.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = _frames()
    frames.pop(threading.get_ident(), None)
    return "\n".join(
        f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sorted(frames.items(), key=lambda item: item[0] == last)
    )


def stack_of(thread: threading.Thread) -> str:
    """Return the last four calls of a thread's stack in a line, innermost last."""
    frame = _frames().get(thread.ident or 0)
    if frame is None:
        return "?"
    places = traceback.extract_stack(frame)[-4:]
    return " > ".join(f"{place.filename}:{place.lineno} in {place.name}" for place in places)


def _frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread, by the thread's ident."""
    if not _MAY_DEADLOCK:
        return sys._current_frames()
    with _lock, garbage_collection.paused():
        return sys._current_frames()
