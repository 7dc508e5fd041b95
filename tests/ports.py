"""Ports for what a test starts."""

from __future__ import annotations

import atexit
import fcntl
import functools
import itertools
import socket
import tempfile
from pathlib import Path
from typing import IO

_FIRST, _EACH, _RANGES = 20_000, 500, 24
"""Below the range from which the kernel assigns ports (from 32768)."""
_numbers = itertools.count()
_locks: list[IO[str]] = []
"""Held until this process ends, however it ends."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, from a range that only this process uses, whatever other test runs there are."""
    first = _leased()
    for number in itertools.islice(_numbers, _EACH):
        port = first + number % _EACH
        try:
            with socket.create_server((host, port)):
                return port
        except OSError:
            continue
    raise AssertionError(f"no port is free on {host}")


@functools.cache
def _leased() -> int:
    """Lease a range; return its first port."""
    for number in range(_RANGES):
        try:
            file = (Path(tempfile.gettempdir()) / f"spoke-jobs-tests-ports-{number}.lock").open("w")
        except PermissionError:  # another user's
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        _locks.append(file)
        atexit.register(file.close)
        return _FIRST + number * _EACH
    raise AssertionError(f"{_RANGES} processes that run tests use all ranges of ports")


def loopbacks() -> list[str]:
    """The loopback addresses of this machine as in a URL: IPv4, and IPv6 where it is available."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return ["127.0.0.1", "[::1]"]
    except OSError:
        return ["127.0.0.1"]
