"""The processes that the demonstration starts: a worker and a carrier."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from texting.demo.watching import Waited, wait_for

_STOP_SECONDS = 10.0


class ServiceFailedError(RuntimeError):
    """A process that the demonstration started has exited."""


class Service:
    """A started process and its log."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            # In a session of its own: Ctrl-C reaches only the demonstration, which then stops the others in order.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def check(self) -> None:
        """Check that the process still runs.

        :raises ServiceFailedError: with the last lines of its log.
        """
        code = self.process.poll()
        if code is not None:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise ServiceFailedError(f"the {self.name} ended with exit code {code}; the end of {self.log}:\n{last}")

    def stop(self) -> None:
        """Stop the process, by SIGKILL if necessary."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def local_services(folder: Path) -> Iterator[Sequence[Service]]:
    """Run a worker and a carrier with logs in the folder, and stop them at the end.

    Set TEXTING_CARRIER_URL for this process and the worker. If it is set already, start no carrier.
    """
    with ExitStack() as running:
        services = []

        def start(name: str, *command: str) -> None:
            service = Service(name, command, folder / f"{name}.log")
            running.callback(service.stop)
            services.append(service)

        if not os.environ.get("TEXTING_CARRIER_URL"):
            port = _free_port()
            os.environ["TEXTING_CARRIER_URL"] = f"http://127.0.0.1:{port}"
            start("carrier", sys.executable, "-m", "texting.carrier", "--port", str(port))
            wait_for(lambda: Waited(_answers(port)), alive=services, what="the carrier to answer")
        # The console script next to this Python interpreter, independent of PATH.
        start("worker", str(Path(sys.executable).with_name("spoke-jobs")), "worker")
        yield services


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").is_success
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
