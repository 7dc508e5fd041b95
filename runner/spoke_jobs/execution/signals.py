"""An event that a signal handler may set."""

from __future__ import annotations

import queue
import threading


class SignalEvent(threading.Event):
    """A :class:`threading.Event` whose :meth:`set` takes no lock.

    The lock of the plain event can deadlock: a handler runs in the thread that it interrupts, and that thread may hold
    the lock because it is about to wait for the event. Here another thread sets the event.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_set = False
        self._inbox: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put is reentrant
        threading.Thread(target=self._set_later, name="spoke-signal", daemon=True).start()

    def set(self) -> None:
        """See :meth:`threading.Event.set`. Waiting threads wake a moment later."""
        self._is_set = True
        self._inbox.put(None)

    def is_set(self) -> bool:
        """See :meth:`threading.Event.is_set`."""
        return self._is_set

    def _set_later(self) -> None:
        while True:
            self._inbox.get()
            super().set()
