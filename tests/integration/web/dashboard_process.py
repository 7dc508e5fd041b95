"""`spoke-jobs web` as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from tests.ports import free_port
from tests.waiting import eventually, patient


@dataclass(frozen=True)
class Served:
    """The process, and where it listens."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        """Where browsers find it."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> httpx.Response:
        """Get a page, on a connection of its own."""
        return httpx.get(f"{self.url}{path}", timeout=patient(30))

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=patient(30))


@contextmanager
def serving(
    url: str, *options: str, access: Sequence[str] = ("--insecure-local",), **environment: str
) -> Iterator[Served]:
    """Run the dashboard until the end of the block. It must serve without errors.

    :param url: of the ledger's database.
    :param access: the options that decide who may look.
    """
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "spoke_jobs", "web", *access, "--port", str(port), *options],
        env=os.environ | {"SPOKE_DATABASE_URL": url} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    served = Served(process, port)

    def is_up() -> bool:
        assert process.poll() is None, process.communicate()
        try:
            return served.get("/healthz").status_code == 200
        except httpx.ConnectError:
            return False

    try:
        eventually(is_up, "it serves")
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=patient(30))
    assert process.returncode == -signal.SIGTERM, errors
    assert f"dashboard listening on {served.url}/" in errors
    assert "Traceback" not in errors
    assert "graceful shutdown exceeded" not in errors, "nothing that is open holds it up"
