"""Who may send tasks by a service account's token: a real task server, and an API server that speaks TokenReview."""

from __future__ import annotations

import logging
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import plain_http
from tests.integration.tasks.conftest import QUICK, StartServer
from tests.integration.tasks.support import api_server as api_module
from tests.integration.tasks.support.api_server import OWN_TOKEN, ApiServer, token_of
from tests.integration.tasks.support.servers import Server, task_server
from tests.waiting import eventually, patient

from spoke_jobs.tasks.client import credentials
from spoke_jobs.tasks.client.credentials import TokenFile
from spoke_jobs.tasks.client.dispatcher import TaskDispatcher
from spoke_jobs.tasks.protocol import encoding
from spoke_jobs.tasks.protocol.messages import PATH, Task
from spoke_jobs.tasks.server.auth import ACCEPTED_SECONDS
from spoke_jobs.tasks.server.review_limits import PEER_BURST, PEER_PER_SECOND

ALLOWED = "texting/web"


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with api_module.api_server() as served:
        yield served


@pytest.fixture
def server(start_server: StartServer, api: ApiServer, tmp_path: Path) -> Server:
    own = tmp_path / "own-token"
    own.write_text(OWN_TOKEN)
    return start_server(key="", callers=ALLOWED, api_url=api.url, api_token_file=own, api_ca_file="")


@pytest.fixture(scope="module")
def refusing_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all callers whom it refuses."""
    folder = tmp_path_factory.mktemp("server")
    own = folder / "own-token"
    own.write_text(OWN_TOKEN)
    with api_module.api_server() as api:
        token = {"api_url": api.url, "api_token_file": own, "api_ca_file": ""}
        with task_server(folder, key="", callers=ALLOWED, **token) as server:
            yield server


def sent(server: Server, shown: str | None) -> int:
    """The status of a request that shows it."""
    return server.post(encoding.task_line(Task("x", "mark", "1")), key=shown).status_code


@pytest.mark.parametrize(
    ("shown", "status", "reason"),
    [
        (None, 401, "none"),
        ("no-token", 401, "form"),
        (token_of(ALLOWED, "https://kubernetes.default.svc"), 401, "audience"),
        (token_of(ALLOWED, expired=True), 401, "token"),
        (token_of(ALLOWED, forged=True), 401, "token"),
        (token_of("texting/other"), 403, "account"),
        (token_of("elsewhere/web"), 403, "account"),
    ],
)
def test_who_is_not_in_the_list_is_refused_counted_and_logged_without_the_token(
    refusing_server: Server, shown: str | None, status: int, reason: str
) -> None:
    name = f'spoke_tasks_requests_refused_total{{reason="{reason}",status="{status}"}}'
    counted, logged = refusing_server.metric(name), len(refusing_server.log.read_text())
    assert [sent(refusing_server, shown) for _ in range(2)] == [status] * 2
    assert refusing_server.metric(name) == counted + 2
    log = refusing_server.log.read_text()
    assert log[logged:].count(f"{status} to 127.0.0.1") == 2
    assert shown is None or shown not in log
    assert OWN_TOKEN not in log
    assert refusing_server.traces() == []


def test_a_peer_is_who_connects_whatever_its_request_says(start_server: StartServer) -> None:
    """uvicorn believes X-Forwarded-For of a peer on its own machine, and of those in FORWARDED_ALLOW_IPS."""
    server = start_server(FORWARDED_ALLOW_IPS="*")
    forged = {"x-forwarded-for": "10.1.2.3", "x-forwarded-proto": "https"}
    assert plain_http.post(f"{server.url}{PATH}", headers=forged).status_code == 401
    eventually(lambda: "401 to " in server.log.read_text())
    assert "401 to 127.0.0.1" in server.log.read_text()


def status_of(server: Server, token: str) -> int:
    """The status of a request with this token and no body. Quicker than with an HTTP client."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=patient(60)) as sender:
        sender.sendall(f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n".encode())
        return int(sender.recv(4096).split()[1])


def test_junk_tokens_displace_no_good_one_and_the_api_server_sees_few_of_them(server: Server, api: ApiServer) -> None:
    begin = time.monotonic()
    assert sent(server, token_of(ALLOWED)) == 200
    junk = [token_of(ALLOWED, forged=True, number=number) for number in range(120)]
    refused = Counter(status_of(server, token) for token in junk)
    assert set(refused) <= {401, 503}
    assert sent(server, token_of(ALLOWED)) == 200
    passed = time.monotonic() - begin
    reviewed = Counter(review["spec"]["token"] == token_of(ALLOWED) for review in api.reviews)
    assert {tuple(review["spec"]["audiences"]) for review in api.reviews} == {("spoke-tasks",)}
    assert set(api.callers) == {f"Bearer {OWN_TOKEN}"}
    assert reviewed[True] <= 1 + passed / ACCEPTED_SECONDS, "its review stays in the cache"
    assert reviewed[False] <= PEER_BURST + PEER_PER_SECOND * passed
    assert len(server.log.read_text().splitlines()) < 100 + passed
    unasked = [token_of("texting/other", number=number) for number in range(10)]
    assert [status_of(server, token) for token in unasked] == [403] * 10
    assert sum(review["spec"]["token"] in unasked for review in api.reviews) == 0


def test_while_the_api_server_is_away_callers_are_told_to_come_again(server: Server, api: ApiServer) -> None:
    api.away = True
    assert sent(server, token_of(ALLOWED)) == 503
    assert "TokenReview" in server.log.read_text() or "tokenreviews" in server.log.read_text()
    assert token_of(ALLOWED) not in server.log.read_text()
    api.away = False
    assert sent(server, token_of(ALLOWED)) == 200


def test_a_dispatcher_shows_its_token_and_the_renewed_one(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(credentials, "READ_EVERY_SECONDS", 0.05)
    file = tmp_path / "token"
    file.write_text(token_of(ALLOWED, expired=True))
    caplog.set_level(logging.DEBUG)
    dispatcher = TaskDispatcher(server.url, TokenFile(str(file)), options=QUICK)
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
