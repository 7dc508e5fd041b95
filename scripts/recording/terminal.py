"""Run a command in a pseudo-terminal, and record its output with the times."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from scripts.recording.screen import Chunk, Size

_POLL_SECONDS = 0.05
_READ_BYTES = 65536


class TookTooLongError(RuntimeError):
    """The command took too long and was killed."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A command's output and exit code."""

    chunks: tuple[Chunk, ...]
    exit_code: int


def record(command: Sequence[str], size: Size, timeout: float) -> Recording:
    """Run the command in a terminal of that size, with 256 colors. At its end, kill the processes that it started.

    :param timeout: in seconds.
    :raises TookTooLongError: if it took longer. It has been killed then.
    :raises FileNotFoundError: if there is no such command.
    """
    ours, its = os.openpty()
    try:
        try:
            termios.tcsetwinsize(its, (size.rows, size.columns))
            process = subprocess.Popen(
                command, stdin=its, stdout=its, stderr=its, env=_environment(size), start_new_session=True
            )
        finally:
            os.close(its)
        with process:
            try:
                return Recording(tuple(_listen(ours, process, timeout)), process.wait())
            finally:
                with suppress(ProcessLookupError):  # the command, if it still runs, and its background processes
                    os.killpg(process.pid, signal.SIGKILL)
    finally:
        os.close(ours)


def _environment(size: Size) -> dict[str, str]:
    """Return the caller's environment, with the variables that describe this terminal."""
    without = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLORTERM")}
    return without | {"TERM": "xterm-256color", "COLUMNS": str(size.columns), "LINES": str(size.rows)}


def _listen(ours: int, process: subprocess.Popen[bytes], timeout: float) -> list[Chunk]:
    chunks: list[Chunk] = []
    begin = time.monotonic()
    while True:
        ended = process.poll() is not None  # check before reading: all output of an ended command can be read now
        ready, _, _ = select.select([ours], [], [], 0 if ended else _POLL_SECONDS)
        if ready:
            try:
                data = os.read(ours, _READ_BYTES)
            except OSError:  # no process has the terminal open
                return chunks
            chunks.append(Chunk(time.monotonic() - begin, data))
        elif ended:  # a background process may keep the terminal open
            return chunks
        if time.monotonic() - begin > timeout:
            raise TookTooLongError(f"it has not ended within {timeout:.0f} s")
