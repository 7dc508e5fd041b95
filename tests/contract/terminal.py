"""The command line in a process of its own, before a terminal or a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.waiting import eventually, patient

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


class Running:
    """A command that runs, and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._printed = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """Without colours and cursor movements."""
        return _ESCAPES.sub("", self._printed.decode(errors="replace"))

    def wait_for(self, words: str) -> None:
        """Until it has printed that."""

        def printed() -> bool:
            reads = self._reader.is_alive()
            has = words in self.text
            assert has or reads, self.text
            return has

        eventually(printed, repr(words), state=lambda: self.text)

    def ended(self) -> int:
        """Wait for its end; its exit code."""
        code = self.process.wait(patient(60))
        self._reader.join(patient(30))
        return code

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._descriptor, 65536)
            except OSError:  # a terminal's other end is closed
                return
            if not data:
                return
            self._printed += data


def _heed_interrupts() -> None:
    """As a terminal's shell has it: one that starts us in the background has them ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def spoke_jobs(url: str, *arguments: object, columns: int = 0) -> Iterator[Running]:
    """Start a command; with columns, before a terminal so wide."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SPOKE_")}
    environment |= {"SPOKE_DATABASE_URL": url, "SPOKE_APP": "tests.contract.app:registry", "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    ours, theirs = pty.openpty() if columns else os.pipe()
    if columns:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    command = [sys.executable, "-m", "spoke_jobs", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment, preexec_fn=_heed_interrupts
    )
    os.close(theirs)
    try:
        yield Running(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
