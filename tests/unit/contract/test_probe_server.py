"""Where a long-running process answers probes, and with what."""

from __future__ import annotations

import http.client
import socket
import urllib.request

import pytest
from tests.ports import loopbacks

from spoke_jobs.contract import probe_server
from spoke_jobs.contract.probe_server import by_label, exposition, json_answer

ROUTES = {
    "/broken": lambda: json_answer(ok=1 // 0 == 1, fields={}),
    "/healthz": lambda: json_answer(ok=False, fields={"why": "it hangs"}),
    "/metrics": lambda: exposition([by_label("things", "Things.", "kind", {'a"b': 2})]),
}


def get(method: str, path: str) -> tuple[int, str, bytes]:
    server = probe_server.serve(ROUTES, 0, "127.0.0.1")
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()
        probe_server.close(server)


def test_a_probe_that_fails_says_why() -> None:
    assert get("GET", "/healthz?x=1") == (503, "application/json", b'{"why": "it hangs"}')
    assert get("HEAD", "/healthz") == (503, "application/json", b"")


def test_metrics_are_in_prometheus_text_format() -> None:
    status, kind, body = get("GET", "/metrics")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert body.decode().splitlines() == [
        "# HELP things_total Things.",
        "# TYPE things_total counter",
        'things_total{kind="a\\"b"} 2.0',
    ]


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
            with urllib.request.urlopen(f"http://{host}:{server.server_port}/metrics", timeout=5) as answer:
                assert answer.status == 200, host
    finally:
        probe_server.close(server)


@pytest.mark.parametrize("host", [address.strip("[]") for address in loopbacks()])
def test_it_answers_at_the_one_address_that_is_named(host: str) -> None:
    server = probe_server.serve(ROUTES, 0, host)
    try:
        assert server.server_address[0] == host
    finally:
        probe_server.close(server)


def test_a_probe_that_raises_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert get("GET", "/broken")[0] == 500
    assert "unexpected error; /broken answers 500" in caplog.text
    assert "ZeroDivisionError" in caplog.text
