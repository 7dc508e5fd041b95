"""End a test process that hangs.

The timeout of a test is a signal, which the interpreter handles between two instructions. A thread that waits for ever
with the GIL held, such as one in a deadlock of C code, never reaches the next instruction.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Generator
from typing import Any

import pytest

GRACE_SECONDS = 60.0
"""What a test may take beyond its timeout."""
COLLECTION_SECONDS = 900.0
"""How long a process may collect, however busy the machine is."""
END_SECONDS = 900.0
"""How long the end of a session may take, with the reports of all tests."""


class FrozenProcesses:
    """Prints the stacks of all threads and ends the process, from a thread that needs no GIL.

    pytest-xdist reports the test as failed then, and starts another process. Without it, the whole session ends. A
    child that a test forks in this process has to end with ``os._exit``. It gets no connection to pytest-xdist, which
    would otherwise learn of this process's end only when the child ends, too.
    """

    def __init__(self) -> None:
        self._stderr = os.dup(2)  # pytest redirects the other one while a test runs

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Replace the connection to pytest-xdist in forked children, which keep the numbers of its descriptors."""
        connections = [
            plugin.channel.gateway._io
            for plugin in session.config.pluginmanager.get_plugins()
            if type(plugin).__name__ == "WorkerInteractor"
        ]
        for connection in connections:
            nothing, files = os.open(os.devnull, os.O_RDWR), (connection.infile, connection.outfile)
            descriptors = [file.fileno() for file in files]

            def disconnect(nothing: int = nothing, descriptors: list[int] = descriptors) -> None:
                for descriptor in descriptors:
                    os.dup2(nothing, descriptor, inheritable=False)

            os.register_at_fork(after_in_child=disconnect)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Watch the collection."""
        return (yield from self._watched(COLLECTION_SECONDS))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Watch the end of the session."""
        return (yield from self._watched(END_SECONDS))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Watch one test."""
        return (yield from self._watched(_bound(item)))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Watch the teardown, too: if the call failed, pytest has cancelled what was to come later."""
        self._watch(_bound(item))
        return (yield)

    def _watched(self, seconds: float) -> Generator[None, object, object]:
        self._watch(seconds)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _watch(self, seconds: float) -> None:
        """End the process after that time; never if it is 0."""
        if seconds:
            faulthandler.dump_traceback_later(seconds, exit=True, file=self._stderr)


def _bound(item: pytest.Item) -> float:
    """Return the seconds after which a test's process is ended; 0 if the test has no timeout."""
    seconds = _timeout(item)
    return seconds + GRACE_SECONDS if seconds else 0.0


def _timeout(item: pytest.Item) -> float:
    """Return the seconds of the test's timeout, as pytest-timeout finds them; 0 if it has none."""
    mark: Any = item.get_closest_marker("timeout")
    given = mark and (mark.args[0] if mark.args else mark.kwargs.get("timeout"))
    choices = (given, item.config.getoption("timeout", None), os.environ.get("PYTEST_TIMEOUT"))
    return float(next((choice for choice in choices if choice is not None), item.config.getini("timeout")) or 0)
