"""End a test process that stands still.

The timeout of a test is a signal, which the interpreter handles between two instructions. A thread that waits for ever
with the GIL held, such as one in a deadlock of C code, lets it come to none.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Generator

import pytest

GRACE_SECONDS = 60.0
"""What a test may take beyond its timeout."""


class FrozenProcesses:
    """Prints the stacks of all threads and ends the process, from a thread that needs no GIL.

    pytest-xdist reports the test as failed then, and begins another process.
    """

    def __init__(self) -> None:
        self._stderr = os.dup(2)  # pytest redirects the other one while a test runs

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Watch one test."""
        mark = item.get_closest_marker("timeout")
        seconds = float((mark.args[0] if mark and mark.args else item.config.getini("timeout")) or 0)
        if not seconds:
            return (yield)
        faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=self._stderr)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()
