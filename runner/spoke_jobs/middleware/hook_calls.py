"""Call the hooks of an application's middleware. An error of a hook is logged, and changes nothing else."""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from spoke_jobs.contract.trace_context import is_trace_id
from spoke_jobs.middleware.hooks import TRACE_ID, HookNames, Middleware
from spoke_jobs.shared.event_loops import finish

CLOSING_SECONDS = 3.0
"""How long a process that ends waits for its middleware."""

logger = logging.getLogger(__name__)


class HookCalls:
    """The hooks around one call. If the first hook of a middleware raises, its other hooks are not called.

    :param call: what the hooks receive.
    """

    def __init__(self, middleware: Sequence[Middleware], names: HookNames, call: Any) -> None:
        self._middleware = middleware
        self._names = names
        self._call = call
        self._begun: list[Middleware] = []
        self._process = os.getpid()

    @property
    def trace_id(self) -> str:
        """The id of the sampled trace in which the call is made; empty before the call, and if there is none."""
        found = self._call.state.get(TRACE_ID)
        return found if is_trace_id(found) else ""

    def before(self) -> None:
        """Call the hooks before the call; an ``async def`` hook gets an event loop of its own."""
        for item in self._middleware:
            if _blocking(item, self._names.before, self._call):
                self._begun.append(item)

    async def abefore(self) -> None:
        """Call the hooks before the call, on this event loop."""
        for item in self._middleware:
            if await _awaited(item, self._names.before, self._call):
                self._begun.append(item)

    def after(self) -> None:
        """Call the hooks after a call that has returned."""
        for item in self._in_reverse():
            _blocking(item, self._names.after, self._call)

    async def aafter(self) -> None:
        """Call the hooks after a call that has returned, on this event loop."""
        for item in self._in_reverse():
            await _awaited(item, self._names.after, self._call)

    def failed(self, error: BaseException) -> None:
        """Call the hooks after a call that has raised."""
        for item in self._in_reverse():
            _blocking(item, self._names.failed, self._call, error)

    async def afailed(self, error: BaseException) -> None:
        """Call the hooks after a call that has raised, on this event loop."""
        for item in self._in_reverse():
            await _awaited(item, self._names.failed, self._call, error)

    def recorded(self, cause: str) -> None:
        """Call the hooks after an attempt's end is recorded.

        :param cause: why it failed; empty after a success.
        """
        for item in self._in_reverse():
            _blocking(item, "attempt_recorded", self._call, cause, contained=BaseException)

    def _in_reverse(self) -> Sequence[Middleware]:
        """Return the middleware to call; none in a process that the function has forked."""
        return self._begun[::-1] if os.getpid() == self._process else ()


@contextmanager
def around(calls: HookCalls) -> Iterator[None]:
    """Call the hooks around a block."""
    try:
        calls.before()
        yield
    except BaseException as error:
        calls.failed(error)
        raise
    calls.after()


@asynccontextmanager
async def around_async(calls: HookCalls) -> AsyncIterator[None]:
    """Call the hooks around a block on this event loop."""
    try:
        await calls.abefore()
        yield
    except GeneratorExit:  # the event loop has ended
        raise
    except BaseException as error:
        await calls.afailed(error)
        raise
    await calls.aafter()


def hooked(function: Callable[..., Any], calls: HookCalls, *, is_async: bool) -> Callable[..., Any]:
    """Return a function that also calls the hooks. They run where the function runs, within its timeout.

    :param is_async: whether the function is an ``async def``.
    """

    async def on_a_loop(ctx: Any, payload: Any) -> Any:
        async with around_async(calls):
            return await function(ctx, payload)

    def in_a_thread(ctx: Any, payload: Any) -> Any:
        try:
            calls.before()
            answer = function(ctx, payload)
            if inspect.isawaitable(answer):  # a `def` that returns a coroutine
                # It is awaited here: hooks on its event loop could not reset the context variables of those before it.
                answer = finish(answer)
        except BaseException as error:
            calls.failed(error)
            raise
        calls.after()
        return answer

    return on_a_loop if is_async else in_a_thread


def close_all(middleware: Sequence[Middleware], seconds: float = CLOSING_SECONDS) -> None:
    """Close the middleware of a process that runs no further job or task."""
    if not middleware:
        return

    def close() -> None:
        for item in middleware:
            _blocking(item, "close")

    thread = threading.Thread(target=close, name="spoke-middleware", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # there are too many threads
        logger.warning("could not close the middleware: %s", error)
        return
    thread.join(seconds)
    if thread.is_alive():
        logger.warning("the middleware did not close within %g s", seconds)


def _blocking(item: Middleware, name: str, *arguments: Any, contained: type[BaseException] = Exception) -> bool:
    """Call a hook in this thread. Return whether it has returned.

    :param contained: the errors that are logged. Where a job or task runs, others, such as SystemExit, end it.
    """
    try:
        answer = getattr(item, name)(*arguments)
        if inspect.isawaitable(answer):
            finish(answer)
    except contained:
        _log(item, name)
        return False
    return True


async def _awaited(item: Middleware, name: str, *arguments: Any) -> bool:
    """Call a hook on this event loop. Return whether it has returned."""
    try:
        answer = getattr(item, name)(*arguments)
        if inspect.isawaitable(answer):
            await answer
    except Exception:
        _log(item, name)
        return False
    return True


def _log(item: Middleware, name: str) -> None:
    logger.exception("%s of the middleware %s raised; nothing else is affected", name, type(item).__qualname__)
