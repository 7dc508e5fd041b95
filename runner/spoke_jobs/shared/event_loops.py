"""Wait for a coroutine where no event loop may wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import copy_context
from typing import TypeVar

_Result = TypeVar("_Result")


def on_event_loop() -> bool:
    """Whether this thread runs an event loop now."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def finish(awaitable: Awaitable[_Result]) -> _Result:
    """Wait for an awaitable on an event loop of its own, with this thread's context variables."""
    if not on_event_loop():
        return asyncio.run(_awaited(awaitable))
    from concurrent.futures import ThreadPoolExecutor  # few processes need it

    with ThreadPoolExecutor(1, "spoke-await") as pool:  # this thread's event loop is running the caller
        return pool.submit(copy_context().run, asyncio.run, _awaited(awaitable)).result()


async def _awaited(awaitable: Awaitable[_Result]) -> _Result:
    return await awaitable
