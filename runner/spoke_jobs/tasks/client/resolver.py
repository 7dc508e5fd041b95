"""A thread that keeps resolving the task deployment's name. A headless Service has one address for each replica.

The delivery loop's own executor cannot be used, because it accepts no work while the process exits.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

Resolve = Callable[[str, int], list[str]]
"""Returns the addresses of a host and port."""

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
        """Held during a look-up."""
        self._paused = False

    def start(self) -> None:
        """Start the thread.

        :raises RuntimeError: if no thread can be started.
        """
        threading.Thread(target=self._run, name="spoke-task-resolver", daemon=True).start()

    def resolve_now(self) -> None:
        """Resolve now, and not only after the interval."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread, after a look-up in progress."""
        self._stopped = True
        self._wake.set()

    def pause(self, seconds: float) -> None:
        """Wait up to ``seconds`` for a look-up to end, and start no other until :meth:`resume`."""
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
            except (OSError, UnicodeError) as error:  # UnicodeError: no host can have this name
                logger.error("SPOKE_TASKS_URL: %s can't be resolved (%s); retrying", self._host, error)  # noqa: TRY400
            else:
                self._found(addresses)
