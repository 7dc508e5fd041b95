"""A process with so many open files that select() refuses their descriptors."""

from __future__ import annotations

import fcntl
import resource
import socket
from collections.abc import Iterator

import pytest

FIRST_REFUSED = 1024


@pytest.fixture
def many_files() -> Iterator[None]:
    """The process may open more files than select() knows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def with_high_number(low: socket.socket) -> socket.socket:
    """Close the socket, and return the same one with a descriptor that select() refuses."""
    with low:
        return socket.socket(fileno=fcntl.fcntl(low.fileno(), fcntl.F_DUPFD_CLOEXEC, FIRST_REFUSED))
