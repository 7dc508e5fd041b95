"""The application's own bounds: on what senders may take of memory and time, and on how long it may be silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx
import pytest
from tests.task_key import KEY

from spoke_jobs import Registry
from spoke_jobs.tasks.protocol.messages import NDJSON, PATH, Acknowledgement, Task, TaskOutcome, task_line
from spoke_jobs.tasks.server import http_app
from spoke_jobs.tasks.server.auth import AuthRefusal, CallerCheck, Callers
from spoke_jobs.tasks.server.bounded_protocol import CONNECTION
from spoke_jobs.tasks.server.executor import TaskExecutor
from spoke_jobs.tasks.server.http_app import (
    BODIES_LIMIT_BYTES,
    QUIET_SECONDS,
    UNREADY_AFTER_SECONDS,
    AcknowledgementStream,
    Intake,
    Readiness,
    TaskApp,
)
from spoke_jobs.tasks.server.task_metrics import TaskMetrics
from spoke_jobs.tasks.server.task_run import Listener

HEADERS = {"authorization": f"Bearer {KEY}", "content-type": NDJSON}


class ApiServerAway:
    """As when nobody can be asked who the caller is."""

    async def refusal(self, authorization: str | None, peer: str) -> AuthRefusal | None:
        return AuthRefusal(503, "review", "not just now")


class TooManyUnknownTokens:
    """As when a stranger sends many forged tokens."""

    async def refusal(self, authorization: str | None, peer: str) -> AuthRefusal | None:
        return AuthRefusal(503, "busy", "too many")


class Connection:
    """Notes whether its request has shown valid credentials."""

    proven = False

    def prove(self) -> None:
        self.proven = True


def client_of(intake: Intake, callers: CallerCheck | None = None, limit: int = 10) -> httpx.AsyncClient:
    executor = TaskExecutor(Registry(), concurrency=1, limit=limit)
    app = TaskApp(executor, callers or Callers(KEY), intake, TaskMetrics(executor, intake, 1))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://server")


async def test_an_answer_with_nothing_to_say_says_that_it_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_app, "EMPTY_LINE_SECONDS", 0.01)
    acks = AcknowledgementStream(2)
    chunks = acks.chunks()
    assert await anext(chunks) == b"\n"
    acks.add(Acknowledgement("a", TaskOutcome.DONE))
    assert await anext(chunks) == b'{"id":"a","outcome":"done"}\n'
    assert await anext(chunks) == b"\n"
    acks.add(Acknowledgement("b", TaskOutcome.DONE))
    assert [chunk async for chunk in chunks] == [b'{"id":"b","outcome":"done"}\n']


@pytest.mark.parametrize(("taken", "status"), [(BODIES_LIMIT_BYTES - 1, 429), (BODIES_LIMIT_BYTES - 2, 200)])
async def test_bodies_on_their_way_are_bounded_together(taken: int, status: int) -> None:
    intake = Intake(receiving_bytes=taken)
    async with client_of(intake) as client:
        response = await client.post(PATH, content=b"1\n", headers=HEADERS)
    assert response.status_code == status
    assert intake.receiving_bytes == taken  # given back, or never taken
    assert response.headers.get("retry-after") == ("1" if status == 429 else None), "dispatchers wait, and keep theirs"


async def test_a_body_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_app, "BODY_LIMIT_BYTES", 10)
    async with client_of(Intake()) as client:
        assert (await client.post(PATH, content=b" " * 10, headers=HEADERS)).status_code != 413
        assert (await client.post(PATH, content=b" " * 11, headers=HEADERS)).status_code == 413


async def test_a_request_with_two_lengths_is_refused() -> None:
    """HTTP reads it by Transfer-Encoding, so that the length would count nothing of the bodies' memory."""
    two = HEADERS | {"content-length": "0", "transfer-encoding": "chunked"}
    intake = Intake()
    async with client_of(intake) as client:
        for request in (client.post(PATH, content=b" " * 10, headers=two), client.get("/healthz", headers=two)):
            response = await request
            assert (response.status_code, response.headers["connection"]) == (400, "close")
    assert intake.refused[400, "form"] == 2


async def test_no_more_of_a_body_is_kept_than_was_declared() -> None:
    async with client_of(Intake()) as client:
        response = await client.post(PATH, content=b" " * 10, headers=HEADERS | {"content-length": "9"})
    assert response.status_code == 413


async def test_a_full_queue_refuses_a_batch_at_once() -> None:
    intake = Intake()
    async with client_of(intake, limit=0) as client:
        response = await client.post(PATH, content=task_line(Task("a", "n", "1")), headers=HEADERS)
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert intake.refused[429, "full"] == 1


async def test_a_stopping_server_refuses_tasks() -> None:
    intake = Intake(draining=True)
    async with client_of(intake) as client:
        response = await client.post(PATH, content=task_line(Task("a", "n", "1")), headers=HEADERS)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert intake.refused[503, "stopping"] == 1


@pytest.mark.parametrize(("shown", "proven"), [("junk", False), (KEY, True)])
async def test_only_valid_credentials_prove_a_connection_and_no_task_begins_before_its_sender_is_told(
    shown: str, proven: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are closed when there are too many. And a task that ends its replica at once must be known to be there."""
    order: list[str] = []

    def accept(task: Task, listener: Listener) -> None:
        order.append("accepted")
        listener(Acknowledgement(task.id, TaskOutcome.DONE))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": task_line(Task("a", "n", "1"))}

    async def send(message: MutableMapping[str, Any]) -> None:
        order.append(message["type"])

    connection = Connection()
    executor, intake = TaskExecutor(Registry(), concurrency=1, limit=10), Intake()
    monkeypatch.setattr(executor, "accept", accept)
    headers = HEADERS | {"authorization": f"Bearer {shown}"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "state": {CONNECTION: connection},
    }
    await TaskApp(executor, Callers(KEY), intake, TaskMetrics(executor, intake, 1))(scope, receive, send)
    assert connection.proven is proven
    assert order[:2] == ["http.response.start", "accepted" if proven else "http.response.body"]


async def test_who_cannot_be_asked_about_is_told_when_to_come_again() -> None:
    async with client_of(Intake(), ApiServerAway()) as client:
        response = await client.post(PATH, content=b"1\n", headers=HEADERS)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_a_body_that_does_not_come_to_its_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_app, "BODY_SECONDS", 0.05)

    async def drip() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    intake = Intake()
    async with client_of(intake) as client:
        response = await client.post(PATH, content=drip(), headers=HEADERS)
    assert response.status_code == 408
    assert intake.receiving_bytes == 0


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/readyz", 503), ("/metrics", 200), ("/other", 404)])
async def test_a_stopping_replica_is_alive_and_not_ready(path: str, status: int) -> None:
    async with client_of(Intake(draining=True)) as client:
        assert (await client.get(path)).status_code == status


async def test_a_replica_through_which_no_request_gets_is_not_ready_until_one_does() -> None:
    now = [100.0]
    intake = Intake(readiness=Readiness(lambda: now[0]))
    async with client_of(intake, ApiServerAway()) as away, client_of(intake) as back:
        for _ in range(2):
            assert (await away.get("/readyz")).status_code == 200
            assert (await away.post(PATH, content=b"1\n", headers=HEADERS)).status_code == 503
            now[0] += UNREADY_AFTER_SECONDS
        answer = await away.get("/readyz")
        assert (answer.status_code, "API server" in answer.text) == (503, True)
        answer = await back.post(PATH, content=b"1\n", headers={"authorization": "Bearer junk"})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert (await back.get("/readyz")).status_code == 503
        assert (await back.post(PATH, content=b"1\n", headers=HEADERS)).status_code == 200
        assert (await back.get("/readyz")).status_code == 200


async def test_strangers_make_no_replica_unready() -> None:
    now = [100.0]
    intake = Intake(readiness=Readiness(lambda: now[0]))
    async with client_of(intake, TooManyUnknownTokens()) as client:
        for _ in range(3):
            assert (await client.post(PATH, content=b"1\n", headers=HEADERS)).status_code == 503
            now[0] += UNREADY_AFTER_SECONDS
        assert (await client.get("/readyz")).status_code == 200


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_that_is_accepted_among_many_keeps_it_ready() -> None:
    clock = Clock()
    readiness = Readiness(clock)
    for _ in range(100):
        clock.now += UNREADY_AFTER_SECONDS / 2
        readiness.turned_away("no room")
        assert readiness.problem() is None
        readiness.accepted()


def test_it_is_ready_again_when_nobody_was_turned_away_for_a_while() -> None:
    clock = Clock()
    readiness = Readiness(clock)
    for _ in range(3):
        readiness.turned_away("no room")
        clock.now += UNREADY_AFTER_SECONDS
    assert readiness.problem() is not None
    clock.now += QUIET_SECONDS
    assert readiness.problem() is None
    readiness.turned_away("no room")
    assert readiness.problem() is None, "the time before does not count"
