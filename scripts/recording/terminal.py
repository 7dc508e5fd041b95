"""Runs a command in a pseudo-terminal and notes what it writes, and when."""

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

_LOOK_SECONDS = 0.05
_READ_BYTES = 65536


class TookTooLongError(RuntimeError):
    """The command had to be ended."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What a command wrote, and how it ended."""

    chunks: tuple[Chunk, ...]
    exit_code: int


def record(command: Sequence[str], size: Size, timeout: float) -> Recording:
    """Run the command in a terminal of that size, with 256 colours, until it ends; what it leaves behind ends with it.

    :param timeout: in seconds.
    :raises TookTooLongError: after which it has been killed.
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
                with suppress(ProcessLookupError):  # it, where it has not ended, and what it has left in the background
                    os.killpg(process.pid, signal.SIGKILL)
    finally:
        os.close(ours)


def _environment(size: Size) -> dict[str, str]:
    """The caller's, but for what says which terminal this is."""
    without = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLORTERM")}
    return without | {"TERM": "xterm-256color", "COLUMNS": str(size.columns), "LINES": str(size.rows)}


def _listen(ours: int, process: subprocess.Popen[bytes], timeout: float) -> list[Chunk]:
    chunks: list[Chunk] = []
    begin = time.monotonic()
    while True:
        ended = process.poll() is not None  # before the last look: what it wrote is there by then
        ready, _, _ = select.select([ours], [], [], 0 if ended else _LOOK_SECONDS)
        if ready:
            try:
                data = os.read(ours, _READ_BYTES)
            except OSError:  # nobody has the terminal open any more
                return chunks
            chunks.append(Chunk(time.monotonic() - begin, data))
        elif ended:  # what it has left in the background may have the terminal open for ever
            return chunks
        if time.monotonic() - begin > timeout:
            raise TookTooLongError(f"it has not ended within {timeout:.0f} s")
