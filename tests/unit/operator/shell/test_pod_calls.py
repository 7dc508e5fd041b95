"""The operator's calls of standby pods, with the endpoint that such a pod has, and with others at its address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from tests.ports import free_port
from tests.waiting import patient

from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.contract.standby import LIMIT_BYTES, PodState, assignment_body, secret_of, verifier_of
from spoke_jobs.execution import standby_endpoint
from spoke_jobs.execution.standby_endpoint import AssignmentSlot
from spoke_jobs_operator.shell.standby.pod_calls import PodCalls, Reply
from spoke_jobs_operator.shell.standby.standby_pods import UnusableKey, standby_key

HERE = "127.0.0.1"
SECRET = secret_of(b"k" * 32, "shop", "default-standby-1")
FIRST = assignment_body(PodAssignment(7, uuid4(), 1, job_type="report").to_environment())
OTHER = assignment_body(PodAssignment(8, uuid4(), 1, job_type="report").to_environment())


@asynccontextmanager
async def calls_to(port: int, timeout_seconds: float = 120) -> AsyncIterator[PodCalls]:
    calls = PodCalls(port, patient(timeout_seconds), patient(timeout_seconds))
    try:
        yield calls
    finally:
        await calls.close()


async def test_a_standby_pod_understands_the_operator() -> None:
    slot = AssignmentSlot(verifier_of(SECRET))
    server = standby_endpoint.serve(slot, 0, HERE)
    try:
        async with calls_to(server.server_port) as calls:
            assert await calls.states([HERE, HERE]) == [PodState.FREE, PodState.FREE]
            assert await calls.assign(HERE, secret_of(b"x" * 32, "shop", "default-standby-1"), FIRST) is Reply.REFUSED
            assert await calls.assign(HERE, SECRET, FIRST) is Reply.ACCEPTED
            assert await calls.assign(HERE, SECRET, FIRST) is Reply.ACCEPTED
            assert await calls.assign(HERE, SECRET, OTHER) is Reply.REFUSED
            assert await calls.states([HERE]) == [PodState.ASSIGNED]
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


async def test_where_nobody_is_nothing_is_sent() -> None:
    async with calls_to(free_port()) as calls:
        assert await calls.states([HERE, "", "not an address", "169.254.169.254/latest"]) == [None] * 4
        for address in (HERE, "", "not an address"):
            assert await calls.assign(address, SECRET, FIRST) is Reply.NOT_CONNECTED


ANSWERS = {
    "another program": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a redirection": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": b"220 mail.example.com ESMTP\r\n",
    "a body without an end": b'HTTP/1.1 200 OK\r\n\r\n{"state": "assigned"' + b" " * 2 * LIMIT_BYTES,
    "nothing": b"",
}


@pytest.mark.parametrize("name", list(ANSWERS))
async def test_what_is_no_standby_pod_accepts_nothing(name: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWERS[name])
        await writer.drain()
        writer.close()

    async with other_program(answer) as port, calls_to(port) as calls:
        assert await calls.states([HERE]) == [None]
        assert await calls.assign(HERE, SECRET, FIRST) is Reply.NONE


async def test_what_does_not_answer_is_waited_for_no_longer_than_the_timeout() -> None:
    done = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    async with other_program(answer) as port:
        calls = PodCalls(port, 0.2, 0.2)
        assert await calls.states([HERE]) == [None]
        assert await calls.assign(HERE, SECRET, FIRST) is Reply.NONE
        await calls.close()
        done.set()


async def test_pods_that_do_not_answer_to_questions_delay_no_assignment() -> None:
    asked = done = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET"):
            asked.set()
            await done.wait()
        else:
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"state": "assigned"}')
            await writer.drain()
        writer.close()

    async with other_program(answer) as port, calls_to(port) as calls:
        questions = asyncio.create_task(calls.states([HERE] * 200))
        await asked.wait()
        assert await calls.assign(HERE, SECRET, FIRST) is Reply.ACCEPTED
        assert not questions.done()
        done.set()
        await questions


@asynccontextmanager
async def other_program(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(answer, HERE, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def test_the_key_is_the_files_or_one_of_this_process(tmp_path: Path) -> None:
    assert len(standby_key("")) >= 32
    assert standby_key("") != standby_key("")
    file = tmp_path / "key"
    file.write_text("0123456789abcdef0123456789abcdef\n")
    assert standby_key(str(file)) == b"0123456789abcdef0123456789abcdef"
    file.write_text("short")
    with pytest.raises(UnusableKey, match=r"key holds 5 bytes: at least 32 are needed"):
        standby_key(str(file))
    with pytest.raises(UnusableKey, match=r"SPOKE_OPERATOR_STANDBY_KEY_FILE=.*absent can't be read"):
        standby_key(str(tmp_path / "absent"))
