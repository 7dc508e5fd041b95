"""Where a long-running process answers probes, and with what."""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest
from prometheus_client.core import CounterMetricFamily
from tests.ports import loopbacks
from tests.waiting import eventually, patient

from spoke_jobs.shared import probe_server
from spoke_jobs.shared.bounded_server import LONGEST_HEAD_BYTES, MOST_CONNECTIONS
from spoke_jobs.shared.metric_exposition import Exposition
from spoke_jobs.shared.probe_server import (
    Answer,
    Routes,
    json_answer,
    text_answer,
)

THINGS = CounterMetricFamily("things", "Things.", labels=["kind"])
THINGS.add_metric(['a"b'], 2)
ROUTES: Routes = {
    "/broken": lambda: json_answer(ok=1 // 0 == 1, fields={}),
    "/healthz": lambda: json_answer(ok=False, fields={"why": "it hangs"}),
    "/metrics": lambda: Exposition("sync", [THINGS]),
}


OPENMETRICS = "application/openmetrics-text"


@contextmanager
def served(routes: Routes) -> Iterator[int]:
    server = probe_server.serve(routes, 0, "127.0.0.1")
    try:
        yield server.server_port
    finally:
        probe_server.close(server)


def answer_at(port: int, method: str, path: str, **headers: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patient(30))
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def get(method: str, path: str, **headers: str) -> tuple[int, str, bytes]:
    with served(ROUTES) as port:
        return answer_at(port, method, path, **headers)


def status_of(port: int, path: str, accept: str = "") -> int:
    return answer_at(port, "GET", path, Accept=accept)[0]


def test_a_probe_that_fails_says_why() -> None:
    assert get("GET", "/healthz?x=1") == (503, "application/json", b'{"why": "it hangs"}')
    assert get("HEAD", "/healthz") == (503, "application/json", b"")


def test_metrics_are_in_openmetrics_for_those_who_ask_for_it() -> None:
    status, kind, body = get("GET", "/metrics")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert body.decode().splitlines()[-1] == 'things_total{kind="a\\"b"} 2.0'
    status, kind, body = get("GET", "/metrics", Accept=OPENMETRICS)
    assert (status, kind.partition(";")[0]) == (200, OPENMETRICS)
    assert body.decode().splitlines()[-3:] == ["# TYPE things counter", 'things_total{kind="a\\"b"} 2.0', "# EOF"]
    status, kind, body = get("HEAD", "/metrics", Accept=OPENMETRICS)
    assert (status, kind.partition(";")[0], body) == (200, OPENMETRICS, b"")


def test_another_path_is_answered_with_those_that_there_are() -> None:
    assert get("GET", "/other") == (
        404,
        "application/json",
        b'{"error": "there are /broken and /healthz and /metrics"}',
    )


@pytest.mark.parametrize("dual", [True, False])
def test_it_answers_at_all_addresses_that_there_are(monkeypatch: pytest.MonkeyPatch, dual: bool) -> None:
    """In a cluster of IPv6 alone a pod has no other; where there is none it has to do without."""
    dual = dual and socket.has_dualstack_ipv6()
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: dual)
    server = probe_server.serve(ROUTES, 0)
    try:
        for host in loopbacks() if dual else ["127.0.0.1"]:
            with urllib.request.urlopen(f"http://{host}:{server.server_port}/metrics", timeout=patient(30)) as answer:
                assert answer.status == 200, host
    finally:
        probe_server.close(server)


def test_a_probe_that_raises_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert get("GET", "/broken")[0] == 500
    assert "unexpected error; /broken answers 500" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_idle_connections_take_neither_threads_nor_the_place_of_a_probe() -> None:
    may_end, began = threading.Event(), threading.Event()

    def slow() -> Answer:
        began.set()
        return text_answer(may_end.wait(patient(30)), "")

    before = threading.active_count()
    with served({"/healthz": slow}) as port, ThreadPoolExecutor(1) as pool, ExitStack() as open_ones:
        probe = pool.submit(status_of, port, "/healthz")
        assert began.wait(patient(30))
        idle = [
            open_ones.enter_context(socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0)))
            for _ in range(3 * MOST_CONNECTIONS)
        ]
        for connection in idle[: 2 * MOST_CONNECTIONS]:  # the oldest ones
            connection.settimeout(30)
            assert connection.recv(1) == b""
        few = before + MOST_CONNECTIONS + 5
        eventually(lambda: threading.active_count() <= few, "the threads of closed connections end")
        may_end.set()
        assert probe.result(patient(30)) == 200


@pytest.mark.parametrize("head", [b"x: " + b"y" * 20_000, b"\r\n".join([b"x: " + b"y" * 500] * 40)])
def test_a_long_head_fills_no_memory(head: bytes) -> None:
    with (
        served({"/healthz": lambda: text_answer(ok=True, text="")}) as port,
        socket.create_connection(("127.0.0.1", port), timeout=patient(30)) as peer,
    ):
        peer.sendall(b"GET /healthz HTTP/1.1\r\n" + head[: LONGEST_HEAD_BYTES // 2] + b"\r\n\r\n")
        assert b" 200 " in peer.recv(100)
    with (
        served({"/healthz": lambda: text_answer(ok=True, text="")}) as port,
        socket.create_connection(("127.0.0.1", port), timeout=patient(30)) as peer,
    ):
        answer = b"the connection was reset"
        with suppress(ConnectionError):
            peer.sendall(b"GET /healthz HTTP/1.1\r\n" + head + b"\r\n\r\n")
            answer = peer.recv(100)
        assert b" 200 " not in answer
        assert status_of(port, "/healthz") == 200


def test_many_requests_cost_no_more_than_some() -> None:
    """The metrics of sync and of a worker query the database. Scrapes in both formats share a query."""
    queries, may_end = [], threading.Event()

    def metrics() -> Exposition:
        queries.append(may_end.wait(patient(30)))
        return Exposition("sync", [THINGS])

    with served({"/metrics": metrics}) as port, ThreadPoolExecutor(20) as pool:
        scrapes = [pool.submit(status_of, port, "/metrics", accept) for accept in ("", OPENMETRICS) * 10]
        eventually(lambda: queries or threading.active_count() > 20, "a query")
        may_end.set()
        assert {scrape.result(patient(30)) for scrape in scrapes} == {200}
        assert len(queries) <= 3
        eventually(lambda: (status_of(port, "/metrics") and len(queries) > 3) or None, "a new answer")


def test_a_peer_that_resets_its_connection_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with served({"/metrics": lambda: text_answer(ok=True, text="x" * 10_000_000)}) as port:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                peer.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                peer.recv(100)
        assert status_of(port, "/metrics") == 200
    assert capfd.readouterr() == ("", "")
