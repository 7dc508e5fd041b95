"""The stacks of this process's threads, as text: where a job was when its time was over."""

from __future__ import annotations

import threading
import traceback

from spoke_jobs.shared.thread_frames import current_frames

TITLE = "The stacks of all threads when the job was ended (most recent call last):\n"


def thread_stacks(last: int) -> str:
    """Return the stacks of all other threads. They contain code, but no values.

    :param last: the ident of the thread whose stack comes last, where it is not cut off.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = current_frames()
    frames.pop(threading.get_ident(), None)
    parts = [
        f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sorted(frames.items(), key=lambda item: item[0] == last)
    ]
    return TITLE + "\n".join(parts)
