"""Run the jobs of an asyncio test, whose database connection belongs to the test's event loop.

A job's ``ctx.session`` is a plain session. On an ``AsyncConnection`` it works only inside a greenlet that can wait for
the loop. So the drain runs in a greenlet that passes every wait to the loop. The greenlet is in a thread of its own,
since a job expects no running loop in its thread. ``async def`` jobs run on the loop, also in a greenlet that can wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar, copy_context
from dataclasses import replace
from typing import Any, TypeVar

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.registry import Definition, Registry
from spoke_jobs.type_names import TypeName

_Result = TypeVar("_Result")


class OnTheLoop:
    """Access to the test's event loop from the thread of its drain."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def run(self, function: Callable[[], _Result]) -> _Result:
        """Run plain code in a thread. What it waits for is awaited on the loop."""
        return await asyncio.to_thread(self._run_here, function)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run an ``async def`` function on the loop, and wait for it in this thread."""
        from sqlalchemy.util.concurrency import greenlet_spawn

        return self.wait_for(greenlet_spawn(_finish, function(*arguments)))

    def wait_for(self, awaitable: Any) -> Any:
        """Await something on the loop, and wait for it in this thread."""
        return asyncio.run_coroutine_threadsafe(_awaited(awaitable), self._loop).result()

    def _run_here(self, function: Callable[[], _Result]) -> _Result:
        _present.set(self)
        current = _waiting_greenlet(function)
        waits_for = current.switch()
        while not current.dead:
            try:
                value = self.wait_for(waits_for)
            except BaseException as error:
                waits_for = current.throw(error)
            else:
                waits_for = current.switch(value)
        result: _Result = waits_for
        return result


_present: ContextVar[OnTheLoop | None] = ContextVar("spoke_jobs_on_the_loop", default=None)
"""Set in the thread of a drain of an asyncio test."""


class TransparentRegistry(Registry):
    """A live view of the application's registry. In an asyncio test, ``async def`` functions run on the test's loop."""

    def __init__(self, registry: Registry) -> None:
        self.jobs = _Transparent(registry.jobs)
        self.tasks = _Transparent(registry.tasks)
        self.middleware = registry.middleware


_Kind = type(Registry().jobs)


class _Transparent(_Kind):  # type: ignore[valid-type, misc]
    def __init__(self, kind: Any) -> None:
        self.__dict__ = kind.__dict__  # shared, so that later declarations are visible here

    def get(self, name: TypeName) -> Definition:
        definition: Definition = super().get(name)
        loop = _present.get()
        if loop is None or not definition.is_async:
            return definition
        function = definition.function
        return replace(definition, function=lambda ctx, payload: loop.call(function, ctx, payload), is_async=False)


def _waiting_greenlet(function: Callable[[], Any]) -> Any:
    try:
        from greenlet import greenlet
    except ModuleNotFoundError:
        raise ConfigurationError("adrain() needs greenlet, as SQLAlchemy's asyncio does: sqlalchemy[asyncio]") from None
    made = greenlet(function)
    made.gr_context = copy_context()
    made.__sqlalchemy_greenlet_provider__ = True  # SQLAlchemy then passes its waits to the parent greenlet
    return made


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


class _PassedOn:
    """Awaits, in place of a coroutine, what the coroutine waits for."""

    def __init__(self, waits_for: Any) -> None:
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self._waits_for)


def _finish(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine to its end in one of SQLAlchemy's greenlets, so that its synchronous calls may wait, too."""
    from sqlalchemy.util.concurrency import await_only

    proceed: Callable[[Any], Any] = coroutine.send
    given: Any = None
    while True:
        try:
            waits_for = proceed(given)
        except StopIteration as end:
            result: _Result = end.value
            return result
        try:
            proceed, given = coroutine.send, await_only(_PassedOn(waits_for))
        except BaseException as error:
            proceed, given = coroutine.throw, error
