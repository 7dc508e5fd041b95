"""Processes that a measurement starts, and sees the end of."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.lib import proc

_GRACE_SECONDS = 1.0
"""A worker with a backlog has no more to say; what it leaves is wiped."""
_ANSWER_SECONDS = 180.0


class BenchError(Exception):
    """The benchmark can't go on; the message says why, with what the process printed last."""


def answer_of(command: Sequence[str], environment: Mapping[str, str], watch: Callable[[], None] | None = None) -> str:
    """Run a command to its end; its last line. ``watch`` is called now and then, and may raise."""
    give_up_at = time.monotonic() + _ANSWER_SECONDS
    with subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output, errors = process.communicate(timeout=0.5)
                    break
                if watch is not None:
                    watch()
                if time.monotonic() > give_up_at:
                    raise BenchError(f"{_shown(command)} did not end within {_ANSWER_SECONDS:g} s")
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise BenchError(f"{_shown(command)} ended with {process.returncode}:\n{tail(output + errors)}")
    return output.strip().rpartition("\n")[2]


class Running:
    """A worker that runs, in a session of its own."""

    def __init__(self, command: Sequence[str], process: subprocess.Popen[bytes], log: Path) -> None:
        self._command = command
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Of the process, which leads the session."""
        return self._process.pid

    def must_run(self) -> None:
        """:raises BenchError: if it has ended."""
        if self._process.poll() is not None:
            raise self.failure(f"ended with {self._process.returncode}")

    def failure(self, what: str) -> BenchError:
        """That it did not do as it should."""
        return BenchError(f"{_shown(self._command)} {what}:\n{tail(self._log.read_text(errors='replace'))}")

    def stop(self) -> None:
        """Ask it to end, then end what is left of it."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        for process in proc.processes():  # the worker's own children, whatever process groups they made
            if process.session == self._process.pid and not process.is_zombie:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[Running]:
    """Start a worker; stop it at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    worker = Running(command, process, log)
    try:
        yield worker
    finally:
        worker.stop()


def _shown(command: Sequence[str]) -> str:
    return " ".join([Path(command[0]).name, *command[1:]])


def tail(text: str, lines: int = 30) -> str:
    """The last lines."""
    return "\n".join(text.strip().splitlines()[-lines:])
