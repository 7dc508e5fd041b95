"""`spoke-jobs web` in processes of their own, and one request to one of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from sqlalchemy import URL
from tests.bench.lib import proc
from tests.bench.lib.processes import Running, running
from tests.bench.lib.settings import REPOSITORY
from tests.ports import free_port

_START_SECONDS = 60.0
_REQUEST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a request."""

    status: int
    seconds: float
    """From the connection to the last byte, on loopback."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A process that answers."""

    process: Running
    port: int

    def get(self, path: str) -> Reply:
        """Ask for a page, on a connection of its own."""
        began = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_REQUEST_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        return Reply(answer.status, time.perf_counter() - began, body)

    def cpu_seconds(self) -> float:
        """Processor time that the process has used so far."""
        return sum(each.seconds for each in proc.processes() if each.session == self.process.pid)


@contextmanager
def dashboard(url: URL, folder: Path, organization: int | None = None) -> Iterator[Dashboard]:
    """Start a dashboard, and stop it at the end.

    :param organization: show only its jobs; None: show all.
    """
    port = free_port()
    name = "all" if organization is None else str(organization)
    command = [str(Path(sys.executable).with_name("spoke-jobs")), "web", "--insecure-local", "--port", str(port)]
    command += ["--payloads", *([] if organization is None else ["--organization", str(organization)])]
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "JOB_RUNNER": "legacy",
        "SPOKE_DATABASE_URL": url.render_as_string(hide_password=False),
        "SPOKE_APP": "tests.bench.web.application",
        # No cluster: what it takes to read one is not measured.
        "KUBECONFIG": str(folder / "no-cluster"),
        "KUBERNETES_SERVICE_HOST": "",
    }
    with running(command, environment, folder / f"dashboard-{name}.log") as process:
        made = Dashboard(process, port)
        give_up_at = time.monotonic() + _START_SECONDS
        while not _answers(made):
            process.must_run()
            if time.monotonic() > give_up_at:
                raise process.failure(f"did not answer within {_START_SECONDS:g} s")
            time.sleep(0.1)
        yield made


def _answers(made: Dashboard) -> bool:
    try:
        return made.get("/healthz").status == 200
    except OSError:
        return False
