"""An event that the handler of a signal may set."""

from __future__ import annotations

import queue
import threading


class SignalEvent(threading.Event):
    """A :class:`threading.Event` whose :meth:`set` takes no lock.

    The plain event's does, and a handler runs in the very thread that it interrupts: one that was just waiting for the
    event holds that lock, and both would wait for ever. Here a thread of the event's own sets it.
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
