"""Ports for what a test starts."""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _EACH = 20_000, 1_500
"""Below the range from which the kernel assigns ports (from 32768)."""
_numbers = itertools.count()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, from a range that only this test process uses."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    for number in itertools.islice(_numbers, _EACH):
        port = _FIRST + process * _EACH + number % _EACH
        try:
            with socket.create_server((host, port)):
                return port
        except OSError:
            continue
    raise AssertionError(f"no port is free on {host}")


def loopbacks() -> list[str]:
    """The loopback addresses of this machine as in a URL: IPv4, and IPv6 where it is available."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return ["127.0.0.1", "[::1]"]
    except OSError:
        return ["127.0.0.1"]
