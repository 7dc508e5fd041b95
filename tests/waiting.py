"""Wait for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: str, get: Callable[[], T | None], seconds: float = 60) -> T:
    """The first answer that is not None or False. :raises AssertionError: at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        answer = get()
        if answer is not None and answer is not False:
            return answer
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


def stays(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition holds for all that time: use it for what must not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(0.05)
    return True
