"""Wait for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 240.0
"""When a wait gives up. A machine that also runs the other tests may be slow: only a promise of the product is a reason
for less."""


def wait_for(
    what: str,
    get: Callable[[], T | None],
    seconds: float = PATIENCE_SECONDS,
    state: Callable[[], object] = lambda: "",
    every: float | None = None,
) -> T:
    """The first answer that is not None or False.

    :param state: what to tell about the subject if the condition does not hold in time.
    :param every: seconds between two checks; None: see :func:`pause`.
    :raises AssertionError: at the deadline.
    """
    began = time.monotonic()
    while True:
        answer = get()
        if answer is not None and answer is not False:
            return answer
        assert time.monotonic() < began + seconds, f"not within {seconds:.0f} s: {what} {state()}"
        pause(began, every or 0.05, every or 0.25)


def pause(began: float, shortest: float = 0.01, longest: float = 0.1) -> None:
    """Sleep until a condition is checked again: for a twentieth of the time since `began`, by the monotonic clock.

    A check takes CPU time, which what is waited for may need.
    """
    time.sleep(min(longest, max(shortest, (time.monotonic() - began) / 20)))


def stays(condition: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Whether the condition holds for all that time: use it for what must not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(every)
    return True
