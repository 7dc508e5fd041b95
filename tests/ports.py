"""Ports for what a test starts."""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _EACH = 20_000, 1_500
"""Below those that the kernel gives away by itself (from 32768), to other tests' servers and to connections."""
_numbers = itertools.count()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, and that no other process of the tests is told at the same moment."""
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
    """This machine's own addresses, as URLs have them: of IPv6 as well, where it has one."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return ["127.0.0.1", "[::1]"]
    except OSError:
        return ["127.0.0.1"]
