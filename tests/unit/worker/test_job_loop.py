"""Jobs that share an event loop, and would end each other's attempts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest
from tests.waiting import patient

from spoke_jobs.worker import job_loop
from spoke_jobs.worker.job_loop import JobTasks
from spoke_jobs.worker.shared_state import SharedState

CULPRIT, OTHER = uuid4(), uuid4()
Meddle = Callable[["asyncio.Task[str]", "asyncio.Task[str]"], Awaitable[object]]


@pytest.fixture
def shared() -> SharedState:
    shared, descriptor = SharedState.make(2)
    SharedState.open(descriptor)
    return shared


@pytest.fixture(autouse=True)
def _this_process_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> None:
        raise AssertionError(f"the event loop ended with {code}")

    monkeypatch.setattr(os, "_exit", leave)


def meet(shared: SharedState, meddle: Meddle) -> tuple[JobTasks, object, object]:
    """Run two attempts, one of which meddles with the other's tasks; how each of them ends."""
    tasks = JobTasks(shared)
    ends: list[object] = []

    async def part(go_on: asyncio.Event) -> str:
        await go_on.wait()
        return "done"

    async def main() -> None:
        loop, go_on = asyncio.get_running_loop(), asyncio.Event()
        parts: list[asyncio.Task[str]] = []

        async def other() -> str:
            parts.append(asyncio.create_task(part(go_on)))
            return await parts[0]

        victim = tasks.begin(loop, OTHER, other())
        await asyncio.sleep(0)

        async def culprit() -> object:
            return await meddle(victim, parts[0])

        meddling = tasks.begin(loop, CULPRIT, culprit())
        await asyncio.wait([meddling], timeout=0.2)
        tasks.stop(CULPRIT, meddling)
        go_on.set()
        ends.extend(await asyncio.gather(meddling, victim, return_exceptions=True))

    job_loop.run(main(), tasks, shared)
    return tasks, ends[0], ends[1]


async def cancel(victim: asyncio.Task[str], _part: asyncio.Task[str]) -> None:
    victim.cancel()


async def cancel_worker(victim: asyncio.Task[str], _part: asyncio.Task[str]) -> None:
    for task in asyncio.all_tasks() - {victim}:
        if getattr(task, "_owner", None) is None:
            task.cancel()


async def stop(_victim: asyncio.Task[str], _part: asyncio.Task[str]) -> None:
    asyncio.get_running_loop().stop()


@pytest.mark.parametrize("meddle", [cancel, cancel_worker, stop])
def test_who_would_end_others_gets_an_error_and_they_go_on(shared: SharedState, meddle: Meddle) -> None:
    tasks, culprit, other = meet(shared, meddle)
    assert isinstance(culprit, RuntimeError)
    assert "share" in str(culprit)
    assert (other, tasks.is_bystander(OTHER)) == ("done", False)


async def wait_for(victim: asyncio.Task[str], _part: asyncio.Task[str]) -> str:
    return await victim


def test_who_waits_for_another_s_task_does_not_take_it_along_when_it_is_stopped(shared: SharedState) -> None:
    _, _, other = meet(shared, wait_for)
    assert other == "done"


async def cancel_part(_victim: asyncio.Task[str], part: asyncio.Task[str]) -> str:
    part.cancel()
    return "done"


def test_whose_part_another_cancelled_is_a_bystander(shared: SharedState) -> None:
    tasks, culprit, other = meet(shared, cancel_part)
    assert culprit == "done"
    assert isinstance(other, asyncio.CancelledError)
    assert (tasks.is_bystander(OTHER), tasks.is_bystander(CULPRIT)) == (True, False)
    for token in (OTHER, CULPRIT):
        tasks.end(token)
    assert not tasks.is_bystander(OTHER)


def test_who_cancels_itself_may(shared: SharedState) -> None:
    async def cancel_itself(_victim: asyncio.Task[str], _part: asyncio.Task[str]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    tasks, culprit, other = meet(shared, cancel_itself)
    assert isinstance(culprit, asyncio.CancelledError)
    assert (other, tasks.is_bystander(CULPRIT)) == ("done", False)


EXITING = """
import asyncio, sys
from uuid import UUID
from spoke_jobs.worker import job_loop
from spoke_jobs.worker.shared_state import SharedState

shared = SharedState.open(int(sys.argv[1]))
tasks = job_loop.JobTasks(shared)

async def exits():
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(3600)

async def other():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("cancelled", flush=True)

async def main():
    loop = asyncio.get_running_loop()
    await asyncio.wait([tasks.begin(loop, UUID(sys.argv[2]), exits()), tasks.begin(loop, UUID(int=1), other())])

job_loop.run(main(), tasks, shared)
"""


def test_an_exit_in_a_callback_names_its_attempt_and_cancels_no_other() -> None:
    shared, descriptor = SharedState.make(2)
    done = subprocess.run(
        [sys.executable, "-c", EXITING, str(descriptor), str(CULPRIT)],
        pass_fds=[descriptor],
        capture_output=True,
        text=True,
        timeout=patient(240),
        check=False,
    )
    SharedState.open(descriptor)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert shared.at[0] == UUID(str(CULPRIT))
