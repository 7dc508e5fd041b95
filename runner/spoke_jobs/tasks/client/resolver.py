"""A thread that keeps resolving the task deployment's name: a headless Service has one address for each replica.

The delivery loop's own executor for look-ups is of no use: it takes no work once the process exits.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

Resolve = Callable[[str, int], list[str]]
"""Host and port to addresses."""

logger = logging.getLogger(__name__)


def resolve_host(host: str, port: int) -> list[str]:
    """Return every address of a host, by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Resolver:
    """Resolves a host at the first :meth:`resolve_now`, and every ``seconds`` from then on.

    :param found: called with the addresses, on the resolver's thread.
    """

    def __init__(
        self, host: str, port: int, seconds: float, resolve: Resolve, found: Callable[[list[str]], None]
    ) -> None:
        self._host = host
        self._port = port
        self._seconds = seconds
        self._resolve = resolve
        self._found = found
        self._wake = threading.Event()
        self._stopped = False
        self._busy = threading.Lock()
        """Held while the system's resolver is at work."""
        self._paused = False

    def start(self) -> None:
        """Start the thread.

        :raises RuntimeError: if no thread can be started.
        """
        threading.Thread(target=self._run, name="spoke-task-resolver", daemon=True).start()

    def resolve_now(self) -> None:
        """Do not wait for the next turn."""
        self._wake.set()

    def stop(self) -> None:
        """Let the thread end."""
        self._stopped = True
        self._wake.set()

    def pause(self, seconds: float) -> None:
        """Wait up to ``seconds`` for a look-up to end, and allow no other until :meth:`resume`."""
        self._paused = self._busy.acquire(timeout=seconds)

    def resume(self) -> None:
        """Allow look-ups again."""
        if self._paused:
            self._paused = False
            self._busy.release()

    def _run(self) -> None:
        wait: float | None = None
        while True:
            self._wake.wait(wait)
            self._wake.clear()
            if self._stopped:
                return
            wait = self._seconds
            try:
                with self._busy:
                    addresses = self._resolve(self._host, self._port)
            except (OSError, UnicodeError) as error:  # the latter for what cannot be a host's name at all
                logger.error("SPOKE_TASKS_URL: %s can't be resolved (%s); retrying", self._host, error)  # noqa: TRY400
            else:
                self._found(addresses)
