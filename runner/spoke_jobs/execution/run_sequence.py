"""The one sequence in which the function of a job or a task is run, and what it does in a thread or on an event loop.

The sequence is a coroutine, and what it does outside of itself are *effects*. On an event loop, effects wait. In a
thread they block, and :func:`run_blocking` runs the coroutine to its end in one step, without an event loop.
"""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from spoke_jobs.registry import Definition
from spoke_jobs.shared.event_loops import finish, on_event_loop

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class CallResult:
    """What the function has returned or raised."""

    value: Any = None
    error: BaseException | None = None
    """None: the function has returned."""


class Context(Protocol):
    """What the function receives, as far as the sequence needs it."""

    def close(self) -> None:
        """Roll back uncommitted writes and close the session."""


class Effects(Protocol):
    """How functions are called and databases are used where the sequence runs."""

    async def call(self, definition: Definition, context: Any, payload: Any) -> CallResult:
        """Call the function."""

    async def blocking(self, function: Callable[[], _Result]) -> _Result:
        """Call a function that may block, for example because it uses the database."""

    async def pause(self, seconds: float) -> None:
        """Wait."""


class ThreadEffects:
    """The effects in a thread of the sequence's own."""

    async def call(self, definition: Definition, context: Any, payload: Any) -> CallResult:
        """Call the function; an ``async def`` function gets an event loop of its own."""
        try:
            return CallResult(call(definition, context, payload))
        except BaseException as error:  # SystemExit or KeyboardInterrupt must end the attempt, not the process
            return CallResult(error=error)

    async def blocking(self, function: Callable[[], _Result]) -> _Result:
        """Call a function that may block."""
        return function()

    async def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)  # noqa: ASYNC251  there is no event loop


def run_blocking(sequence: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a sequence whose effects block to its end."""
    try:
        sequence.send(None)
    except StopIteration as end:
        result: _Result = end.value
        return result
    sequence.close()
    raise RuntimeError("an effect of a thread has waited for an event loop")


async def perform(
    effects: Effects, definition: Definition, context: Any, payload: Any, finish: Callable[[Any], Awaitable[None]]
) -> BaseException | None:
    """Call the function and record its success. Return what was raised, also what the function raised; None: nothing.

    :param finish: records the success, with the function's result.
    """
    process = os.getpid()
    try:
        outcome = await effects.call(definition, context, payload)
        _leave_if_forked(process)
        if outcome.error is not None:
            return outcome.error
        await finish(outcome.value)
    except GeneratorExit:  # the event loop has ended
        raise
    except BaseException as error:  # whatever it is, it ends the attempt, not the process
        _leave_if_forked(process)
        return error
    return None


def _leave_if_forked(process: int) -> None:
    if os.getpid() != process:  # the function forked this process: the end and the session belong to its parent
        os._exit(1)


def close(context: Context, owner: str) -> None:
    """Close the context's session.

    :param owner: whose session it is, for the log.
    """
    try:
        context.close()
    except Exception as error:  # a broken connection can't be closed cleanly; the end is known already
        logger.warning("could not close the session of %s: %s", owner, type(error).__name__)


def call(definition: Definition, context: Any, payload: Any) -> Any:
    """Call a job's or task's function; an ``async def`` function gets an event loop of its own."""
    if not on_event_loop():
        return _call(definition, context, payload)
    from concurrent.futures import ThreadPoolExecutor  # few processes need it

    with ThreadPoolExecutor(1, "spoke-call") as pool:  # this thread's event loop is running the caller
        return pool.submit(_call, definition, context, payload).result()


def _call(definition: Definition, context: Any, payload: Any) -> Any:
    answer = definition.function(context, payload)
    return finish(answer) if inspect.isawaitable(answer) else answer
