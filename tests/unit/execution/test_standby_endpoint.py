"""What a standby pod answers, and when it stops to wait."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import pytest
from tests.waiting import patient

from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.contract.standby import PATH, assignment_body, secret_of, verifier_of
from spoke_jobs.execution import standby_endpoint
from spoke_jobs.execution.standby_endpoint import AssignmentSlot

SECRET = secret_of(b"k" * 32, "shop", "default-standby-1")
VERIFIER = verifier_of(SECRET)
FIRST = PodAssignment(7, uuid4(), 1, job_type="report").to_environment()
OTHER = PodAssignment(8, uuid4(), 1, job_type="report").to_environment()


class Pod:
    """A standby pod that listens."""

    def __init__(self) -> None:
        self.slot = AssignmentSlot(VERIFIER)
        self.server = standby_endpoint.serve(self.slot, 0, "127.0.0.1")

    def ask(
        self, method: str, body: bytes | None = None, *, secret: str | None = SECRET, path: str = PATH
    ) -> tuple[int, dict[str, object]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=patient(120))
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        with closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")

    def assign(self, variables: dict[str, str], secret: str | None = SECRET) -> int:
        return self.ask("POST", assignment_body(variables), secret=secret)[0]


@pytest.fixture
def pod() -> Iterator[Pod]:
    pod = Pod()
    yield pod
    pod.server.shutdown()
    pod.server.server_close()


def test_a_free_pod_takes_one_attempt_and_the_same_one_again(pod: Pod) -> None:
    assert pod.ask("GET", secret=None) == (200, {"state": "free"})
    assert pod.assign(FIRST) == 200
    assert pod.slot.filled.is_set()
    assert dict(pod.slot.variables) == FIRST
    assert pod.ask("GET", secret=None) == (200, {"state": "assigned"})
    assert pod.assign(FIRST) == 200, "the operator did not get the first answer"
    assert pod.assign(OTHER) == 409
    assert dict(pod.slot.variables) == FIRST


def test_a_later_operator_is_understood_and_sets_nothing_else(pod: Pod) -> None:
    """It may know more variables, and word others differently when it tells a pod again as the next leader."""
    further = {"SPOKE_OF_A_LATER_RELEASE": "1", "SPOKE_DATABASE_URL": "postgresql://elsewhere", "SPOKE_APP": "os"}
    assert pod.assign(FIRST | further) == 200
    assert dict(pod.slot.variables) == FIRST
    assert pod.assign(FIRST | {"SPOKE_TIMEOUT": "5"}) == 200
    assert dict(pod.slot.variables) == FIRST, "the attempt goes on as it began"


@pytest.mark.parametrize(
    "secret",
    [
        None,
        "",
        VERIFIER,
        secret_of(b"k" * 32, "shop", "default-standby-2"),
        secret_of(b"x" * 32, "shop", "default-standby-1"),
    ],
)
def test_whoever_reads_the_pod_or_knows_another_pods_secret_assigns_nothing(pod: Pod, secret: str | None) -> None:
    assert pod.assign(FIRST, secret) == 401
    assert not pod.slot.filled.is_set()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        assignment_body({name: value for name, value in FIRST.items() if name != "SPOKE_REQUEST_UID"}),
        assignment_body(FIRST | {"SPOKE_ATTEMPT": "0"}),
    ],
)
def test_anything_but_the_identifiers_of_an_attempt_is_refused(pod: Pod, body: bytes) -> None:
    assert pod.ask("POST", body)[0] == 400
    assert not pod.slot.filled.is_set()


def test_long_requests_and_other_paths_are_refused(pod: Pod) -> None:
    assert pod.ask("POST", b"x" * 5000)[0] == 413
    assert pod.ask("GET", path="/")[0] == 404
    assert pod.ask("POST", assignment_body(FIRST), path="/")[0] == 404
    with socket.create_connection(("127.0.0.1", pod.server.server_port), timeout=patient(30)) as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nContent-Length: -1\r\n\r\n".encode())
        assert b" 413 " in connection.recv(100)
    assert pod.assign(FIRST) == 200


def test_a_request_without_an_end_takes_no_memory_of_the_job(pod: Pod) -> None:
    """The port stays open while the job runs."""
    with socket.create_connection(("127.0.0.1", pod.server.server_port), timeout=patient(30)) as connection:
        ended = False
        try:
            connection.sendall(f"GET {PATH} HTTP/1.1\r\n".encode())
            for _ in range(50):
                connection.sendall(b"x: " + b"y" * 10_000 + b"\r\n")
            ended = b" 431 " in connection.recv(100)
        except ConnectionError:
            ended = True
        assert ended
    assert pod.assign(FIRST) == 200


def test_idle_connections_keep_the_operator_from_nothing(pod: Pod) -> None:
    idle = [socket.create_connection(("127.0.0.1", pod.server.server_port)) for _ in range(100)]
    try:
        assert pod.assign(FIRST) == 200
    finally:
        for connection in idle:
            connection.close()


class Clock:
    """Time that passes as it is waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(standby_endpoint.time, "monotonic", lambda: self.now)

    def slot(self, assigned_at: float = float("inf")) -> AssignmentSlot:
        slot = AssignmentSlot(VERIFIER)

        def wait(seconds: float) -> bool:
            self.now += seconds
            return self.now >= assigned_at

        slot.filled.wait = wait  # type: ignore[assignment, method-assign]
        return slot


def test_the_wait_ends_with_an_attempt_a_sigterm_or_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, cancel = Clock(monkeypatch), threading.Event()
    assert standby_endpoint.wait(clock.slot(assigned_at=30), cancel, lambda: None, 3600)
    assert 30 <= clock.now < 31
    clock.now = 0
    assert not standby_endpoint.wait(clock.slot(), cancel, lambda: None, 3600)
    assert 3600 <= clock.now < 3601
    clock.now = 0
    cancel.set()
    assert not standby_endpoint.wait(clock.slot(assigned_at=30), cancel, lambda: None, 3600)
    assert clock.now < 1


def test_a_database_that_goes_away_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pings: list[float] = []

    def ping() -> None:
        pings.append(clock.now)
        if clock.now > 25:
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        standby_endpoint.wait(clock.slot(), threading.Event(), ping, 3600)
    assert [round(at) for at in pings] == [10, 20, 30]


def test_an_attempt_that_comes_while_the_database_goes_away_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slot = Clock(monkeypatch).slot()

    def ping() -> None:
        assert slot.assign(f"Bearer {SECRET}", assignment_body(FIRST)) == 200
        raise ConnectionError("gone")

    assert standby_endpoint.wait(slot, threading.Event(), ping, 3600)
    assert dict(slot.variables) == FIRST


def test_a_pod_that_ends_takes_no_attempt_any_more(pod: Pod) -> None:
    cancel = threading.Event()
    cancel.set()
    assert not standby_endpoint.wait(pod.slot, cancel, lambda: None, 3600)
    assert pod.assign(FIRST) == 409
    assert not pod.slot.filled.is_set()
