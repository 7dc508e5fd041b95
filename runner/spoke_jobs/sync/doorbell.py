"""Who dispatches a job rings; here it is heard, so that the loop looks for rows at once. Polling stands behind it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable


class Doorbell:
    """A thread that waits for rings.

    :param heard: becomes readable when somebody has rung (:func:`spoke_jobs.ledger.notify.listen`).
    """

    def __init__(self, heard: socket.socket) -> None:
        self._heard = heard
        self.on_ring: Callable[[], None] = lambda: None
        """Called in the thread; rings that come close together make one call."""
        threading.Thread(target=self._run, name="spoke-doorbell", daemon=True).start()

    def _run(self) -> None:
        while self._heard.recv(4096):
            self.on_ring()
