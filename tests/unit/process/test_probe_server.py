"""Where a long-running process answers probe_server."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from tests.ports import loopbacks

from spoke_jobs.process import probe_server


@pytest.mark.parametrize("dual", [True, False])
def test_it_answers_at_all_addresses_that_there_are(monkeypatch: pytest.MonkeyPatch, dual: bool) -> None:
    """In a cluster of IPv6 alone a pod has no other; where there is none it has to do without."""
    dual = dual and socket.has_dualstack_ipv6()
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: dual)
    server = probe_server.serve(lambda: (True, {}), list, 0)
    try:
        for host in loopbacks() if dual else ["127.0.0.1"]:
            with urllib.request.urlopen(f"http://{host}:{server.server_port}/healthz", timeout=5) as answer:
                assert answer.status == 200, host
    finally:
        server.shutdown()
        server.server_close()


def test_it_answers_at_the_one_address_that_is_named() -> None:
    server = probe_server.serve(lambda: (True, {}), list, 0, "127.0.0.1")
    try:
        assert server.server_address[0] == "127.0.0.1"
    finally:
        server.shutdown()
        server.server_close()
