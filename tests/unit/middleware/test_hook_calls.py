"""Which hooks are called, in which order, and what their errors do."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextvars import ContextVar
from typing import Any

import pytest
from tests.waiting import patient

from spoke_jobs import Middleware
from spoke_jobs.middleware import hook_calls
from spoke_jobs.middleware.hook_calls import HookCalls, around, around_async, close_all, hooked
from spoke_jobs.middleware.hooks import ATTEMPT

CALL: Any = object()
current: ContextVar[str] = ContextVar("current", default="")


class Noted(Middleware):
    """Notes its hooks; ``refuses`` is the hook that raises."""

    def __init__(self, name: str, said: list[str], refuses: str = "", error: BaseException | None = None) -> None:
        self.name = name
        self.said = said
        self.refuses = refuses
        self.error = error or ValueError("no")

    def note(self, hook: str) -> None:
        self.said.append(f"{self.name} {hook}")
        if hook == self.refuses:
            raise self.error

    def before_attempt(self, call: Any) -> None:
        self.note("before")

    def after_attempt(self, call: Any) -> None:
        self.note("after")

    def attempt_failed(self, call: Any, error: BaseException) -> None:
        self.note(f"failed {type(error).__name__}")

    def attempt_recorded(self, call: Any, cause: str) -> None:
        self.note(f"recorded {cause}")

    def close(self) -> None:
        self.note("close")


class AsyncNoted(Noted):
    """The same, with hooks that wait for the event loop."""

    async def before_attempt(self, call: Any) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().before_attempt(call)

    async def after_attempt(self, call: Any) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().after_attempt(call)

    async def attempt_failed(self, call: Any, error: BaseException) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().attempt_failed(call, error)


_PLACES = ("thread", "loop", "def on a loop", "def that returns a coroutine")
PLACES = pytest.mark.parametrize("place", _PLACES)
KINDS = pytest.mark.parametrize(("place", "kind"), list(zip(_PLACES, (Noted, AsyncNoted) * 2, strict=True)))


def run(place: str, calls: HookCalls, error: BaseException | None = None, seen: list[str] | None = None) -> Any:
    """Call a function with its hooks, where functions of jobs and tasks run. It notes the context variable."""

    def function(_ctx: object, _payload: object) -> str:
        if seen is not None:
            seen.append(current.get())
        if error is not None:
            raise error
        return "result"

    async def async_function(ctx: object, payload: object) -> str:
        await asyncio.sleep(0)
        return function(ctx, payload)

    if place == "thread":
        return hooked(function, calls, is_async=False)(None, None)
    if place == "def that returns a coroutine":
        return hooked(lambda ctx, payload: async_function(ctx, payload), calls, is_async=False)(None, None)

    async def main() -> Any:
        if place == "loop":
            return await hooked(async_function, calls, is_async=True)(None, None)
        return hooked(function, calls, is_async=False)(None, None)

    return asyncio.run(main())


@KINDS
def test_the_last_one_added_is_nearest_to_the_function(place: str, kind: type[Noted]) -> None:
    said: list[str] = []
    calls = HookCalls([kind("outer", said), kind("inner", said)], ATTEMPT, CALL)
    assert run(place, calls) == "result"
    calls.recorded("")
    assert said == [
        *("outer before", "inner before", "inner after", "outer after"),
        *("inner recorded ", "outer recorded "),
    ]


@KINDS
@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(3), asyncio.CancelledError()])
def test_whatever_the_function_raises_is_passed_on(place: str, kind: type[Noted], error: BaseException) -> None:
    said: list[str] = []
    calls = HookCalls([kind("one", said)], ATTEMPT, CALL)
    with pytest.raises(type(error)):
        run(place, calls, error)
    assert said == ["one before", f"one failed {type(error).__name__}"]


@KINDS
def test_an_error_of_a_hook_is_logged_and_changes_nothing_else(
    place: str, kind: type[Noted], caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []
    calls = HookCalls([kind("bad", said, "before"), kind("good", said)], ATTEMPT, CALL)
    assert run(place, calls) == "result"
    assert said == ["bad before", "good before", "good after"]  # what did not begin is not ended
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.message == f"before_attempt of the middleware {kind.__name__} raised; nothing else is affected"


@PLACES
def test_an_error_after_the_function_does_not_hide_its_result(place: str) -> None:
    said: list[str] = []
    calls = HookCalls([Noted("one", said), Noted("bad", said, "after")], ATTEMPT, CALL)
    assert run(place, calls) == "result"
    assert said == ["one before", "bad before", "bad after", "one after"]


def test_a_hook_that_exits_while_the_end_is_recorded_ends_nothing() -> None:
    """Several attempts share the event loop on which this hook is called."""
    said: list[str] = []
    calls = HookCalls([Noted("one", said), Noted("bad", said, "recorded JobError", SystemExit(1))], ATTEMPT, CALL)
    calls.before()
    calls.recorded("JobError")
    assert said[2:] == ["bad recorded JobError", "one recorded JobError"]


@PLACES
def test_the_function_sees_what_a_plain_hook_sets_and_the_one_after_it_resets_that(place: str) -> None:
    class Resets(Middleware):
        def before_attempt(self, call: Any) -> None:
            self.token = current.set("set by the hook")

        def after_attempt(self, call: Any) -> None:
            current.reset(self.token)  # raises in another context
            resets.append("after")

        def attempt_failed(self, call: Any, error: BaseException) -> None:
            current.reset(self.token)
            resets.append("failed")

    resets, seen = list[str](), list[str]()
    run(place, HookCalls([Resets()], ATTEMPT, CALL), seen=seen)
    with pytest.raises(ZeroDivisionError):
        run(place, HookCalls([Resets()], ATTEMPT, CALL), ZeroDivisionError(), seen)
    assert (resets, seen) == (["after", "failed"], ["set by the hook"] * 2)
    assert current.get() == ""


def test_an_async_hook_of_a_plain_function_sees_the_context_variables_of_its_caller() -> None:
    seen: list[str] = []

    class Reads(Middleware):
        async def before_attempt(self, call: Any) -> None:
            seen.append(current.get())

    async def main() -> None:
        current.set("of the caller")
        with around(HookCalls([Reads()], ATTEMPT, CALL)):
            pass

    asyncio.run(main())
    assert seen == ["of the caller"]


def test_a_process_that_the_function_forks_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    calls = HookCalls([Noted("one", said)], ATTEMPT, CALL)
    with around(calls):
        monkeypatch.setattr(hook_calls.os, "getpid", lambda: -1)
    calls.recorded("")
    assert said == ["one before"]


async def test_the_hooks_of_a_cancelled_call_can_still_wait() -> None:
    said: list[str] = []
    entered = asyncio.Event()

    async def cancelled() -> None:
        async with around_async(HookCalls([AsyncNoted("one", said)], ATTEMPT, CALL)):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(cancelled())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["one before", "one failed CancelledError"]


def test_a_coroutine_that_is_thrown_away_calls_no_hook() -> None:
    """Its event loop has ended: a hook could not wait for anything."""
    said: list[str] = []

    class Waits:
        def __await__(self) -> Any:
            yield

    async def call() -> None:
        async with around_async(HookCalls([Noted("one", said)], ATTEMPT, CALL)):
            await Waits()

    coroutine = call()
    coroutine.send(None)
    coroutine.close()
    assert said == ["one before"]


def test_closing_waits_for_each_middleware_and_outlives_their_errors(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    close_all([Noted("bad", said, "close"), Noted("good", said)])
    assert said == ["bad close", "good close"]
    assert [record.message for record in caplog.records] == [
        "close of the middleware Noted raised; nothing else is affected"
    ]


def test_closing_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()

    class Hangs(Middleware):
        def close(self) -> None:
            released.wait(patient(60))

    close_all([Hangs()], seconds=0.01)
    released.set()
    assert caplog.messages == ["the middleware did not close within 0.01 s"]
