"""Who may send tasks by a service account's token: a real task server, and an API server that speaks TokenReview."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests import plain_http
from tests.integration.tasks.conftest import QUICK, StartServer
from tests.integration.tasks.support import api_server as api_module
from tests.integration.tasks.support.api_server import OWN_TOKEN, ApiServer, token_of
from tests.integration.tasks.support.servers import Server, task_server
from tests.waiting import eventually, patient

from spoke_jobs.tasks.client.credentials import ProjectedToken
from spoke_jobs.tasks.client.dispatcher import TaskDispatcher
from spoke_jobs.tasks.protocol import messages
from spoke_jobs.tasks.protocol.messages import PATH, Task

ALLOWED = "texting/web"


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    with api_module.api_server() as served:
        yield served


@pytest.fixture(scope="module")
def reviewing_server(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    own = folder / "own-token"
    own.write_text(OWN_TOKEN)
    token = {"api_url": api.url, "api_token_file": own, "api_ca_file": ""}
    with task_server(folder, key="", callers=ALLOWED, **token) as server:
        yield server


@pytest.fixture
def server(reviewing_server: Server) -> Server:
    reviewing_server.begin()
    return reviewing_server


def sent(server: Server, shown: str | None) -> int:
    """The status of a request that shows it."""
    return server.post(messages.task_line(Task(str(uuid4()), "mark", "1")), key=shown).status_code


@pytest.mark.parametrize(
    ("shown", "status", "reason"),
    [
        (None, 401, "none"),
        (token_of(ALLOWED, forged=True), 401, "token"),
        (token_of("texting/other"), 403, "account"),
    ],
)
def test_who_is_not_in_the_list_is_refused_counted_and_logged_without_the_token(
    server: Server, shown: str | None, status: int, reason: str
) -> None:
    name = f'spoke_tasks_requests_refused_total{{reason="{reason}",status="{status}"}}'
    counted = server.metric(name)
    assert [sent(server, shown) for _ in range(2)] == [status] * 2
    assert server.metric(name) == counted + 2
    assert server.said().count(f"{status} to 127.0.0.1") == 2
    assert shown is None or shown not in server.said()
    assert OWN_TOKEN not in server.said()
    assert server.traces() == []


def test_a_peer_is_who_connects_whatever_its_request_says(start_server: StartServer) -> None:
    """uvicorn believes X-Forwarded-For of a peer on its own machine, and of those in FORWARDED_ALLOW_IPS."""
    server = start_server(FORWARDED_ALLOW_IPS="*")
    forged = {"x-forwarded-for": "10.1.2.3", "x-forwarded-proto": "https"}
    assert plain_http.post(f"{server.url}{PATH}", headers=forged).status_code == 401
    eventually(lambda: "401 to " in server.log.read_text())
    assert "401 to 127.0.0.1" in server.log.read_text()


def test_while_the_api_server_is_away_callers_are_told_to_come_again(server: Server, api: ApiServer) -> None:
    token = token_of(ALLOWED, number=1)
    api.away = True
    assert sent(server, token) == 503
    assert "TokenReview" in server.said() or "tokenreviews" in server.said()
    assert token not in server.said()
    api.away = False
    assert sent(server, token) == 200
    assert {tuple(review["spec"]["audiences"]) for review in api.reviews} == {("spoke-tasks",)}
    assert set(api.callers) == {f"Bearer {OWN_TOKEN}"}


def test_a_dispatcher_shows_its_token_and_the_renewed_one(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text(token_of(ALLOWED, expired=True))
    caplog.set_level(logging.DEBUG)
    dispatcher = TaskDispatcher(server.url, ProjectedToken(str(file)), options=QUICK)
    try:
        dispatcher.submit("mark", "7")
        eventually(lambda: "SPOKE_TASKS_CALLERS" in caplog.text, what="the refusal's being said")
        assert server.traces() == []
        file.write_text(token_of(ALLOWED) + "\n")
        assert dispatcher.flush(patient(60))
        file.unlink()  # swapped just now: the last one serves
        dispatcher.submit("mark", "8")
        assert dispatcher.flush(patient(60))
    finally:
        dispatcher.close(0)
    assert server.traces() == ["7", "8"]
    assert token_of(ALLOWED, expired=True) not in caplog.text
    assert token_of(ALLOWED) not in caplog.text
