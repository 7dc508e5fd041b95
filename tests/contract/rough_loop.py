"""More of the rough application: jobs for limits, cancellations and ends, in both kinds. Its registry is the whole."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text
from tests.contract import rough_app
from tests.contract.rough_app import EAGER, say_pid

from spoke_jobs import Discard, JobContext, RetryLater, TaskContext, configure, dispatch_task, settings
from spoke_jobs.worker import job_output
from spoke_jobs.worker.child_messages import Report, encode

registry = rough_app.registry
metadata = rough_app.metadata


def note(folder: str, word: str) -> None:
    """A line in a file that all processes share, with the time on the clock that they share."""
    with (Path(folder) / "notes").open("a") as file:
        file.write(f"{word} {time.monotonic()} {os.getpid()}\n")


@registry.job("async_until_all")
async def async_until_all(_ctx: JobContext, payload: dict[str, Any]) -> int:
    """End once so many of them are inside together: one after the other they never would be."""
    note(payload["folder"], f"in-{payload['n']}")
    notes = Path(payload["folder"]) / "notes"
    while notes.read_text().count("in-") < payload["of"]:  # noqa: ASYNC110  (processes share it)
        await asyncio.sleep(0.01)
    return os.getpid()


@registry.job("async_until_file", retry=EAGER)
async def async_until_file(ctx: JobContext, payload: str) -> int:
    """Run until a file appears."""
    say_pid(ctx)
    while not Path(payload).exists():  # noqa: ASYNC110, ASYNC240  (the test makes it)
        await asyncio.sleep(0.01)
    return ctx.attempt


@registry.task("slow_note")
def slow_note(_ctx: TaskContext, payload: str) -> None:
    """Is still at it when the job that dispatched it has ended, and its worker with it."""
    time.sleep(1)
    note(payload, "noted")


def _dispatch_note(folder: str) -> None:
    configure(registry=registry)
    dispatch_task("slow_note", folder)


@registry.job("dispatch_note")
def dispatch_note(_ctx: JobContext, payload: str) -> None:
    _dispatch_note(payload)


@registry.job("async_dispatch_note")
async def async_dispatch_note(_ctx: JobContext, payload: str) -> None:
    _dispatch_note(payload)


@registry.job("async_sleep", retry=EAGER)
async def async_sleep(ctx: JobContext, _payload: Any) -> None:
    say_pid(ctx)
    await asyncio.sleep(3600)


@registry.job("async_deaf", retry=EAGER)
async def async_deaf(ctx: JobContext, _payload: Any) -> None:
    """Not even cancelling its task ends it."""
    say_pid(ctx)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


@registry.job("async_grumble", retry=EAGER)
async def async_grumble(ctx: JobContext, _payload: Any) -> None:
    """Make something else of being cancelled, as drivers do."""
    say_pid(ctx)
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        raise RuntimeError("the connection was interrupted") from None


@registry.job("async_block", retry=EAGER)
async def async_block(ctx: JobContext, payload: str) -> None:
    """Hold up the loop with everything on it, once a file is there."""
    say_pid(ctx)
    while not Path(payload).exists():  # noqa: ASYNC110, ASYNC240  (the test makes it)
        await asyncio.sleep(0.01)
    time.sleep(3600)  # noqa: ASYNC251  (that is the fault)


@registry.job("sleep", retry=EAGER)
def sleep(ctx: JobContext, _payload: Any) -> None:
    say_pid(ctx)
    time.sleep(3600)


@registry.job("hold_interpreter", retry=EAGER)
def hold_interpreter(ctx: JobContext, payload: str) -> None:
    """Hang in native code that lets no other thread run, as a regular expression may."""
    say_pid(ctx)
    while not Path(payload).exists():
        time.sleep(0.01)
    # The signal that asks for stacks would end the sleep, and the job with it. Another thread takes it instead.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.PyDLL(None).sleep(3600)


def _forge_report(ctx: JobContext) -> None:
    """Write to this process's supervisor that the attempt has ended."""
    with socket.socket(fileno=os.dup(int(sys.argv[2]))) as connection:
        connection.sendall(encode(Report(0, token=ctx._claim.token)))


@registry.job("forge_report", retry=EAGER)
def forge_report(ctx: JobContext, payload: str) -> None:
    _forge_report(ctx)
    hold_interpreter(ctx, payload)


@registry.job("async_forge_report", retry=EAGER)
async def async_forge_report(ctx: JobContext, payload: Any) -> None:
    _forge_report(ctx)
    await async_deaf(ctx, payload)


@registry.job("hold_interpreter_once", retry=EAGER)
def hold_interpreter_once(ctx: JobContext, payload: str) -> int:
    if ctx.attempt == 1:
        hold_interpreter(ctx, payload)
    return ctx.attempt


def _exhaust_memory() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, hard))
    try:
        heap = []
        while True:
            heap.append(bytearray(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _break_session(ctx: JobContext) -> None:
    ctx.session.execute(text("SELECT * FROM no_such_table"))


def _use_session_after_it_broke(ctx: JobContext) -> None:
    try:
        _break_session(ctx)
    except Exception:
        ctx.session.execute(text("SELECT 1"))
    ctx.session.execute(text("SELECT * FROM no_such_table"))


def _close_connection(ctx: JobContext) -> None:
    ctx.session.connection().connection.driver_connection.close()  # type: ignore[union-attr]
    ctx.session.execute(text("SELECT 1"))


def _raise(error: BaseException) -> Any:
    raise error


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


WAYS: dict[str, tuple[Callable[[JobContext], Any], str]] = {
    "sys_exit": (lambda _: sys.exit(3), "JobExited"),
    "keyboard_interrupt": (lambda _: _raise(KeyboardInterrupt()), "Interrupted"),
    "os_exit": (lambda _: os._exit(3), "JobExited"),
    "os_exit_zero": (lambda _: os._exit(0), "JobExited"),
    "killed": (lambda _: os.kill(os.getpid(), signal.SIGKILL), "Killed"),
    "segfault": (lambda _: ctypes.string_at(0), "Killed"),
    "unserialisable": (lambda _: object(), "InvalidResult"),
    "not_a_number": (lambda _: float("nan"), "InvalidResult"),
    "too_large": (lambda _: "x" * 100_000, "InvalidResult"),
    "nul": (lambda _: _raise(ValueError("a \x00 and a \ud800")), "JobError"),
    "unspeakable": (lambda _: _raise(Unspeakable()), "JobError"),
    "base_exception": (lambda _: _raise(BaseException("not even an Exception")), "JobError"),
    "generator_exit": (lambda _: _raise(GeneratorExit()), "JobError"),
    "stop_iteration": (lambda _: _raise(StopIteration()), "JobError"),
    "recursion": (lambda ctx: WAYS["recursion"][0](ctx), "JobError"),
    "memory": (lambda _: _exhaust_memory(), "JobError"),
    "discard": (lambda _: _raise(Discard("not wanted")), "Discarded"),
    "broken_session": (_break_session, "JobError"),
    "broken_session_used_again": (_use_session_after_it_broke, "JobError"),
    "closed_connection": (_close_connection, "DatabaseUnreachable"),
}
"""How a job may end badly, and the cause that is recorded of it."""


@registry.job("bad", retry=EAGER, on_failure="told_of_failure")
def bad(ctx: JobContext, payload: str) -> Any:
    return WAYS[payload][0](ctx)


@registry.job("async_bad", retry=EAGER, on_failure="told_of_failure")
async def async_bad(ctx: JobContext, payload: str) -> Any:
    await asyncio.sleep(0)
    return WAYS[payload][0](ctx)


async def async_bad_in_subtask(ctx: JobContext, payload: str) -> Any:
    async def part() -> Any:
        await asyncio.sleep(0)
        return WAYS[payload][0](ctx)

    return (await asyncio.gather(part(), asyncio.sleep(0.01)))[0]


for _way in WAYS:  # a type for each, since a worker holds back a type whose jobs take down their processes
    registry.job(f"bad_{_way}", retry=EAGER, on_failure="told_of_failure")(bad)
    registry.job(f"async_bad_{_way}", retry=EAGER, on_failure="told_of_failure")(async_bad)
    registry.job(f"async_bad_in_subtask_{_way}", retry=EAGER)(async_bad_in_subtask)


def _others() -> list[asyncio.Task[Any]]:
    """The tasks of the event loop, but for the caller's."""
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def _exit_in_callback() -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(3600)


async def _cancel_parts() -> None:
    for task in _others():
        if task.get_name() == "part":
            task.cancel()


async def _leave_alarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    await asyncio.sleep(0.1)


MEDDLING: dict[str, tuple[Callable[[], Awaitable[None]], str]] = {
    "leave_alarm": (_leave_alarm, ""),
    "cancel_parts": (_cancel_parts, ""),
    "exit_in_callback": (_exit_in_callback, "JobExited"),
}
"""What a job may do to the event loop that it shares, and the cause that is recorded of it; empty: it succeeds."""


@registry.job("async_meddle", retry=EAGER)
async def async_meddle(_ctx: JobContext, payload: str) -> None:
    await MEDDLING[payload][0]()


@registry.job("async_in_parts", retry=EAGER)
async def async_in_parts(ctx: JobContext, payload: str) -> int:
    """Run until a file appears, in a task of its own."""
    await asyncio.create_task(async_until_file(ctx, payload), name="part")
    return ctx.attempt


@registry.job("told_of_failure")
def told_of_failure(_ctx: JobContext, payload: Any) -> Any:
    return [payload["id"], payload["cause"]]


def _chatter() -> None:
    line = b"x" * 999 + b"\n"
    for _ in range(1000):
        os.write(1, line * 100)


@registry.job("chatter")
def chatter(_ctx: JobContext, _payload: Any) -> str:
    """100 MB to stdout."""
    _chatter()
    return "said"


@registry.job("async_chatter")
async def async_chatter(_ctx: JobContext, _payload: Any) -> str:
    _chatter()
    return "said"


@registry.job("async_fork")
async def async_fork(_ctx: JobContext, payload: dict[str, Any]) -> int:
    """Fork, and have the copy come back out of the job, or wait in it."""
    pid = os.fork()
    if pid == 0:
        note(payload["folder"], "copy")
        if payload["waits"]:
            await asyncio.sleep(0)
        return -1
    await asyncio.sleep(0.1)
    os.waitpid(pid, 0)  # noqa: ASYNC222  (it has ended)
    return 1


@registry.job("later", retry=EAGER)
def later(ctx: JobContext, payload: int) -> int:
    if ctx.attempt <= payload:
        raise RetryLater(0)
    return ctx.attempt


@registry.job("async_later", retry=EAGER)
async def async_later(ctx: JobContext, payload: int) -> int:
    if ctx.attempt <= payload:
        raise RetryLater(0)
    return ctx.attempt


@registry.job("noted")
def noted(_ctx: JobContext, payload: str) -> None:
    note(payload, "ran")


@registry.job("nothing")
def nothing(_ctx: JobContext, _payload: Any) -> None: ...


@registry.job("async_nothing")
async def async_nothing(_ctx: JobContext, _payload: Any) -> None: ...


def _speak(ctx: JobContext) -> None:
    print("printed")
    logging.getLogger("app").warning("logged")
    ctx.logger.warning("by its logger")


def _end(payload: dict[str, Any]) -> None:
    if payload.get("end") == "raise":
        raise ValueError("as it was told to")
    if payload.get("end") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("the end")


if "ROUGH_OUTPUT_SECONDS" in os.environ:  # so that on a slow machine quick jobs count as quick
    for module in (settings, job_output):
        vars(module)["OUTPUT_SECONDS"] = float(os.environ["ROUGH_OUTPUT_SECONDS"])


@registry.job("speak")
def speak(ctx: JobContext, payload: dict[str, Any]) -> None:
    """Print in several ways, then wait for a file or end in the given way."""
    _speak(ctx)
    subprocess.run(["/bin/sh", "-c", "echo by a process; echo to its stderr >&2"], check=True)
    while "until" in payload and not Path(payload["until"]).exists():
        time.sleep(0.01)
    _end(payload)


@registry.job("async_speak")
async def async_speak(ctx: JobContext, payload: dict[str, Any]) -> None:
    """The same, but for the processes."""
    await asyncio.to_thread(_speak, ctx)
    while "until" in payload and not Path(payload["until"]).exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.01)
    _end(payload)


@registry.job("daemonize")
def daemonize(_ctx: JobContext, payload: dict[str, Any]) -> None:
    """Start a process in a session of its own, whose parent ends at once."""
    command = 'echo $$ > "$0.new"; mv "$0.new" "$0"; exec sleep 600'
    subprocess.run(["setsid", "--fork", "/bin/sh", "-c", command, payload["pid_file"]], check=True)
    while not Path(payload["pid_file"]).exists():
        time.sleep(0.01)
    if payload["way"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)
