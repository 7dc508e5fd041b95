"""An event that a signal handler may set."""

from __future__ import annotations

import queue
import threading


class SignalEvent(threading.Event):
    """A :class:`threading.Event` whose :meth:`set` takes no lock.

    The lock of the plain event can deadlock: a handler runs in the thread that it interrupts, which holds that lock if
    it is just waiting for the event. Here a thread of the event's own sets it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told = False
        self._inbox: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put may interrupt itself
        threading.Thread(target=self._pass_on, name="spoke-signal", daemon=True).start()

    def set(self) -> None:
        """See :meth:`threading.Event.set`; whoever waits wakes a moment later."""
        self._told = True
        self._inbox.put(None)

    def is_set(self) -> bool:
        """See :meth:`threading.Event.is_set`."""
        return self._told

    def _pass_on(self) -> None:
        while True:
            self._inbox.get()
            super().set()
