"""The one sequence of jobs and tasks: call, record, whatever is raised and wherever it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from spoke_jobs.execution.run_sequence import CallResult, Effects, ThreadEffects, perform, run_blocking
from spoke_jobs.registry import Definition, Registry


class LoopEffects(ThreadEffects):
    async def call(self, definition: Definition, context: Any, payload: Any) -> CallResult:
        try:
            return CallResult(await definition.function(context, payload))
        except BaseException as error:
            return CallResult(error=error)


def run_on_loop(sequence: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await sequence

    return asyncio.run(main())


PLACES = pytest.mark.parametrize(
    ("effects", "run"),
    [(ThreadEffects(), run_blocking), (LoopEffects(), run_on_loop)],
    ids=["in a thread", "on an event loop"],
)


def definition(function: Callable[..., Any]) -> Definition:
    registry = Registry()
    registry.job("it")(function)
    return registry.jobs.get("it")


@PLACES
def test_the_end_gets_what_the_function_returned(effects: Effects, run: Callable[..., Any]) -> None:
    finished: list[object] = []

    async def function(context: str, payload: str) -> str:
        return context + payload

    async def finish(result: Any) -> None:
        finished.append(result)

    assert run(perform(effects, definition(function), "c", "p", finish)) is None
    assert finished == ["cp"]


@PLACES
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(0), KeyboardInterrupt(), asyncio.CancelledError()])
def test_whatever_is_raised_is_returned_and_nothing_is_recorded(
    effects: Effects, run: Callable[..., Any], error: BaseException
) -> None:
    async def function(_context: object, _payload: object) -> None:
        raise error

    async def finish(_result: object) -> None:
        raise AssertionError("it is recorded")

    assert run(perform(effects, definition(function), None, None, finish)) is error


@PLACES
def test_an_end_that_cannot_be_recorded_is_the_outcome(effects: Effects, run: Callable[..., Any]) -> None:
    async def function(_context: object, _payload: object) -> None:
        pass

    error = ConnectionError("away")

    async def finish(_result: object) -> None:
        raise error

    assert run(perform(effects, definition(function), None, None, finish)) is error


def test_a_function_may_raise_what_ends_a_coroutine() -> None:
    def function(_context: object, _payload: object) -> None:
        raise StopIteration(5)

    async def finish(_result: object) -> None:
        raise AssertionError("it is recorded")

    found = run_blocking(perform(ThreadEffects(), definition(function), None, None, finish))
    assert isinstance(found, StopIteration)


def test_an_effect_that_waits_is_refused_in_a_thread() -> None:
    with pytest.raises(RuntimeError, match="has waited for an event loop"):
        run_blocking(asyncio.sleep(0))
