"""Real task servers, as subprocesses on loopback ports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests import plain_http
from tests.ports import free_port
from tests.preloaded import Program
from tests.task_key import KEY
from tests.waiting import eventually, patient

from spoke_jobs.tasks.protocol import messages

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[3]
COMMAND = str(Path(sys.executable).with_name("spoke-jobs"))


@dataclass
class Server:
    """A running `spoke-jobs tasks`."""

    process: subprocess.Popen[bytes]
    url: str
    trace: Path
    log: Path
    logged: int = 0
    """Characters of the log that tests before this one have caused."""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def begin(self) -> None:
        """Leave nothing of the test before this one."""
        self.logged = len(self.log.read_text())
        for name in ("trace", "gate"):
            self.trace.with_name(name).unlink(missing_ok=True)

    def said(self) -> str:
        """What this test has it log."""
        return self.log.read_text()[self.logged :]

    def get(self, path: str) -> httpx.Response:
        """A GET, outside any pool."""
        return plain_http.get(f"{self.url}{path}", timeout=patient(30))

    def ready(self) -> bool:
        """Whether it says so."""
        try:
            return self.get("/readyz").status_code == 200
        except httpx.HTTPError:
            assert self.process.poll() is None, self.log.read_text()
            return False

    def post(self, body: bytes, content_type: str = messages.NDJSON, key: str | None = KEY) -> httpx.Response:
        """A whole request, read to its answer's end."""
        headers = {"content-type": content_type} | ({"authorization": f"Bearer {key}"} if key is not None else {})
        return plain_http.post(f"{self.url}{messages.PATH}", content=body, headers=headers, timeout=patient(120))

    def acknowledged(self, *tasks: messages.Task) -> dict[str | None, messages.Acknowledgement]:
        """Send tasks in one request; their acknowledgements by id."""
        response = self.post(b"".join(messages.task_line(task) for task in tasks))
        assert response.status_code == 200, response.text
        acks = [messages.parse_acknowledgement(line) for line in response.content.splitlines()]
        return {ack.id: ack for ack in acks if ack is not None}

    def metric(self, name: str) -> int:
        """A counter's value."""
        lines = self.get("/metrics").text.splitlines()
        return int(float(next((line.rpartition(" ")[2] for line in lines if line.startswith(name)), 0)))

    def memory(self, line: str = "VmRSS") -> int:
        """Its resident memory in bytes, the most that it has had for ``VmHWM``. Linux only."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.partition(f"{line}:")[2].split()[0])

    def kill(self) -> None:
        """As the kernel would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(patient(60))

    def terminate(self) -> None:
        """As Kubernetes would; doesn't wait."""
        self.process.send_signal(signal.SIGTERM)

    def stopped(self) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(patient(120))

    def open_gate(self) -> None:
        """Let its gated tasks end."""
        self.trace.with_name("gate").touch()

    def traces(self) -> list[str]:
        """The lines that tasks have left."""
        return self.trace.read_text().splitlines() if self.trace.exists() else []


def environment(trace: Path, **settings: object) -> dict[str, str]:
    """A server's environment; settings in upper case are variables as they are, others SPOKE_TASKS_*."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(HERE),
        "SPOKE_APP": "tasks_app:registry",
        "SPOKE_TASKS_KEY": KEY,
        "TRACE": str(trace),
        **{name if name.isupper() else f"SPOKE_TASKS_{name.upper()}": str(value) for name, value in settings.items()},
    }


@contextmanager
def task_server(
    folder: Path, *, host: str = "127.0.0.1", port: int | None = None, **settings: object
) -> Iterator[Server]:
    """A server that is ready; killed at the block's end if it still runs."""
    port = port or free_port(host)
    log = folder / f"server-{host}-{port}.log"
    trace = folder / "trace"
    with log.open("ab") as output:
        process = Program(
            "tasks",
            [COMMAND, "tasks"],
            env=environment(trace, host=host, port=port, **settings),
            stdout=output,
            stderr=output,
        )
    scheme = "https" if "tls_cert_file" in settings else "http"
    server = Server(process, f"{scheme}://{host}:{port}", trace, log)
    try:
        eventually(server.ready, what="readiness")
        yield server
    finally:
        process.kill()
        process.wait(patient(60))


@contextmanager
def started_anew(settings: dict[str, str]) -> Iterator[None]:
    """A server that is started again whenever it has ended, as Kubernetes does."""
    processes: list[subprocess.Popen[bytes]] = []
    over = threading.Event()

    def keep() -> None:
        while not over.is_set():
            processes.append(Program("tasks", [COMMAND, "tasks"], env=settings, stderr=subprocess.DEVNULL))
            processes[-1].wait()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        while keeper.is_alive():  # one may just be starting
            if processes:
                processes[-1].kill()
            keeper.join(0.1)
