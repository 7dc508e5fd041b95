"""Wait for a condition, never for a time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FACTOR = float(os.environ.get("SPOKE_TEST_PATIENCE") or (4 if os.environ.get("CI") else 1))
"""Multiplies every bound of a wait: a machine that runs other tests at the same time is slower."""
WITHIN_SECONDS = 60.0
LEAST_SECONDS = 30.0
"""Only a promise of the product is a reason for a smaller bound."""
REST = 2.0
"""How many times longer than a check the pause after it is: what is waited for may need the CPU time of a check."""
LONGEST_REST_SECONDS = 2.0


def patient(seconds: float) -> float:
    """Seconds after which a test gives up, times the factor: for subprocesses, threads, requests and commands."""
    return seconds * FACTOR


def eventually(
    condition: Callable[[], T | None],
    what: str = "the condition",
    within: float = WITHIN_SECONDS,
    *,
    promised: bool = False,
    state: Callable[[], object] = lambda: "",
    every: float | None = None,
) -> T:
    """Wait until the condition gives a true answer, and return it.

    :param what: what is waited for, for the message of the error.
    :param within: seconds, which the factor multiplies; at least ``LEAST_SECONDS``.
    :param promised: whether the bound itself is tested, as a promise of the product: then it holds as it is.
    :param state: what to say about the subject if the condition does not hold in time.
    :param every: seconds between two checks; None: see :func:`pause`. Unless ``promised``, the pause is longer after a
        check that took long.
    :raises AssertionError: when the time is over.
    """
    began, seconds = time.monotonic(), _bound(within, promised)
    while True:
        checked = time.monotonic()
        if answer := condition():
            return answer
        now = time.monotonic()
        assert now < began + seconds, f"not within {seconds:.0f} s: {what} {state()}"
        rest = 0.0 if promised else _rest(now - checked)
        pause(began, max(every or 0.02, rest), max(every or 0.25, rest))


async def eventually_async(
    condition: Callable[[], T | None], what: str = "the condition", within: float = WITHIN_SECONDS, every: float = 0.001
) -> T:
    """Wait likewise, and let the event loop run meanwhile.

    :param every: seconds between two checks; 0: check in each pass of the loop.
    """
    began, seconds = time.monotonic(), _bound(within)
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < began + seconds, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(every)


def pause(began: float, shortest: float = 0.01, longest: float = 0.1) -> None:
    """Sleep until a condition is checked again: for a twentieth of the time since `began`, by the monotonic clock."""
    time.sleep(min(longest, max(shortest, (time.monotonic() - began) / 20)))


def stays(condition: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Whether the condition holds for all that time, also at its end: use it for what must not happen."""
    checked = time.monotonic()
    deadline = checked + seconds
    while condition():
        now = time.monotonic()
        if now >= deadline:
            return True
        time.sleep(min(max(every, _rest(now - checked)), deadline - now))
        checked = time.monotonic()
    return False


def _rest(took: float) -> float:
    """Seconds to pause after a check that took so long."""
    return min(REST * took, LONGEST_REST_SECONDS)


def _bound(within: float, promised: bool = False) -> float:
    assert promised or within >= LEAST_SECONDS, "a bound that no promise needs is too small for a busy machine"
    return within if promised else patient(within)
