"""A file into which a child writes the stacks of its threads, while native code may hold its interpreter.

The supervisor asks for them by a signal, before it kills the child. Python's faulthandler writes them without the
interpreter's lock.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import tempfile
import time

SIGNAL = signal.SIGUSR2
_SECONDS = 0.5
"""How long the supervisor waits for the stacks."""
_PAUSE_SECONDS = 0.01
_LIMIT = 100_000
"""The most bytes that are read, from the end, where the main thread is."""


class StackFile:
    """The supervisor's end of the file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)

    def fileno(self) -> int:
        """The file descriptor, which the child inherits."""
        return self._file.fileno()

    def ask(self, pid: int) -> str:
        """Ask the child for its stacks; return them, or empty text if it writes none in time.

        Without a handler, for example because the job has removed it, the signal ends the child. Once a child has
        ended, another thread may close the file at any time.
        """
        with contextlib.suppress(OSError, ValueError):  # ValueError: of a closed file
            os.kill(pid, SIGNAL)
            give_up, size = time.monotonic() + _SECONDS, 0
            while time.monotonic() < give_up:
                time.sleep(_PAUSE_SECONDS)
                before, size = size, os.fstat(self.fileno()).st_size
                if size and size == before:
                    break
            start = max(size - _LIMIT, 0)
            return os.pread(self.fileno(), size - start, start).decode(errors="replace")
        return ""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def register(descriptor: int) -> None:
    """Make this process, a child, write its stacks into the file when it gets the signal."""
    os.set_inheritable(descriptor, False)  # processes that a job starts must not write to it
    faulthandler.register(SIGNAL, file=descriptor, all_threads=True)
