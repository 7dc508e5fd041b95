"""Two sync processes, killed at random, dispatch and launch each occurrence of a schedule once.

The API server is a stand-in that knows as much of SpokeJobs as this needs, so that no cluster is needed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, func, select
from tests.integration.sync.ticking_app import NAMES
from tests.ports import free_port
from tests.preloaded import Program
from tests.waiting import eventually

from spoke_jobs.cluster.manifest import name_of
from spoke_jobs.ledger.columns.clock import clock_now
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request, job_schedule

SPOKEJOBS = "/apis/jobs.spoke.dev/v1/namespaces/shop/spokejobs"


class StandIn:
    """An API server on which SpokeJobs can be created and listed. Nothing ever happens to them."""

    def __init__(self) -> None:
        self.created: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                if "watch=" in query:  # a watch that ends at once: sync lists again, and watches again
                    self._answer(200, None)
                elif path == SPOKEJOBS:
                    with stand_in._lock:
                        items = list(stand_in.created.values())
                    self._answer(200, {"kind": "SpokeJobList", "metadata": {"resourceVersion": "1"}, "items": items})
                elif path.endswith("/spokelimits"):
                    self._answer(200, {"kind": "SpokeLimitList", "metadata": {"resourceVersion": "1"}, "items": []})
                else:
                    self._answer(404, {"kind": "Status", "code": 404, "reason": "NotFound"})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = body["metadata"]["name"]
                with stand_in._lock:
                    if name in stand_in.created:
                        self._answer(409, {"kind": "Status", "code": 409, "reason": "AlreadyExists"})
                        return
                    body["metadata"] |= {"uid": f"uid-of-{name}", "resourceVersion": "1"}
                    stand_in.created[name] = body
                self._answer(201, body)

            def do_PATCH(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                name = self.path.partition("?")[0].removeprefix(SPOKEJOBS).split("/")[1]
                self._answer(200, stand_in.created[name])

            def _answer(self, code: int, body: dict[str, Any] | None) -> None:
                data = b"" if body is None else json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_arguments: Any) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:  # the client was killed
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def kubeconfig(self, path: Path) -> str:
        server = {"server": f"http://127.0.0.1:{self._server.server_port}"}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "stand-in", "cluster": server}],
            "users": [{"name": "sync", "user": {"token": "nobody-checks-it"}}],
            "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "sync"}}],
            "current-context": "stand-in",
        }
        path.write_text(yaml.safe_dump(content))
        return str(path)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    made = StandIn()
    yield made
    made.close()


@pytest.fixture
def engine(postgres_ledger_url: str) -> Iterator[Engine]:
    engine = create_engine(postgres_ledger_url)
    yield engine
    engine.dispose()


@contextmanager
def syncs(number: int, environment: dict[str, str], folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    with (folder / "sync.log").open("ab") as log:
        running = [start(environment, log) for _ in range(number)]
        try:
            yield running
        finally:
            for process in running:
                process.kill()
                process.wait()


def start(environment: dict[str, str], log: Any = None) -> subprocess.Popen[bytes]:
    command = ["-m", "spoke_jobs", "sync", "--health-port", str(free_port())]
    return Program("sync", command, env=os.environ | environment, stdout=log, stderr=log)


@pytest.mark.parametrize(
    ("kills", "pause"),
    [(2, 2.0), pytest.param(60, 5.0, marks=[pytest.mark.long, pytest.mark.timeout(1800)])],
    ids=["short", "whole"],
)
def test_each_occurrence_is_dispatched_and_launched_once(
    engine: Engine, stand_in: StandIn, tmp_path: Path, kills: int, pause: float
) -> None:
    environment = {
        "JOB_RUNNER": "kubernetes",
        "KUBECONFIG": stand_in.kubeconfig(tmp_path / "kubeconfig"),
        "SPOKE_APP": "tests.integration.sync.ticking_app:registry",
        "SPOKE_DATABASE_URL": engine.url.render_as_string(hide_password=False),
        "SPOKE_NAMESPACE": "shop",
        "SPOKE_SUBMIT": "sync",
    }
    ledger, chance = SqlLedger(engine), random.Random(17)

    def log() -> str:
        return (tmp_path / "sync.log").read_text()[-5000:]

    with syncs(2, environment, tmp_path) as running:
        for _ in range(kills):
            before = len(stand_in.created)
            eventually(lambda before=before: len(stand_in.created) > before, "the next launches", state=log)  # type: ignore[misc]
            time.sleep(chance.uniform(0, pause))  # the random moment itself
            victim = chance.randrange(2)
            running[victim].kill()
            running[victim].wait()
            with (tmp_path / "sync.log").open("ab") as file:
                running[victim] = start(environment, file)
        with engine.connect() as connection:
            now = connection.scalar(select(clock_now()))
        assert now is not None

        def caught_up() -> bool:
            with engine.connect() as connection:
                due = connection.scalar(select(func.min(job_schedule.c.next_due_at)))
            return due is not None and due > now

        eventually(caught_up, "all occurrences until the last kill", state=log)
        # The processes still dispatch: what is there now must be launched.
        jobs = {name_of(job) for job in ledger.list_jobs(100_000)}
        eventually(lambda: jobs <= stand_in.created.keys(), "each job has its SpokeJob", state=log)
    rows = ledger.list_jobs(100_000)
    assert stand_in.created.keys() <= {name_of(job) for job in rows}
    with engine.connect() as connection:
        for name in NAMES:
            found = sorted(
                connection.scalars(select(job_request.c.scheduled_for).where(job_request.c.schedule == name)).all()
            )
            assert found == [found[0] + timedelta(seconds=number) for number in range(len(found))], name
    print(f"\n{len(rows)} occurrences of {len(NAMES)} schedules, {kills} kills")
