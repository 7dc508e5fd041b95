"""A standby pod's process: it waits without a job, and runs the one that it is assigned as a pod of its own would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.contract.ledger import EAGER, new_job
from tests.integration.tracing.collector import collecting
from tests.ports import free_port
from tests.waiting import eventually, patient

from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.contract.standby import PATH, assignment_body, secret_of, verifier_of
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobOptions, JobState

SECRET = secret_of(b"k" * 32, "shop", "default-standby-1")
APP = """
import os
from spoke_jobs import Middleware, add_middleware, job

class Sends(Middleware):
    def close(self):
        print("sent what was left", flush=True)

add_middleware(Sends())

@job("report")
def report(ctx, payload: dict):
    return {"attempt": ctx.attempt, "trace": os.environ.get("TRACEPARENT"), "pod": os.environ["SPOKE_POD"]}
"""
CLOSED = "sent what was left"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RUN = """
import os
from spoke_jobs.contract import standby
standby.PORT = int(os.environ["PORT_OF_THE_TEST"])  # the port is the pod's own, and this machine has others' tests
from spoke_jobs.cli.commands.run_command import run
run()
"""


def ask(port: int, data: bytes | None = None, secret: str = SECRET) -> tuple[int, object]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{PATH}", data, {"Authorization": f"Bearer {secret}"}, method="POST" if data else "GET"
    )
    try:
        with urllib.request.urlopen(request, timeout=patient(30)) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, None
    except (urllib.error.URLError, ConnectionError):
        return 0, None


@contextmanager
def standby_pod(
    url: str, folder: Path, more: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A standby pod's process, and its port."""
    (folder / "standby_app.py").write_text(APP)
    port = free_port()
    environment = {
        "JOB_RUNNER": "kubernetes",
        "SPOKE_APP": "standby_app",
        "SPOKE_NAMESPACE": "shop",
        "SPOKE_TASKS_URL": "http://127.0.0.1:1",
        "SPOKE_TASKS_KEY": "0123456789abcdef0123456789abcdef",
        "SPOKE_DATABASE_URL": url,
        "SPOKE_STANDBY": verifier_of(SECRET),
        "SPOKE_STANDBY_SECONDS": "600",
        "SPOKE_POD": "default-standby-1-x",
        "PORT_OF_THE_TEST": str(port),
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", RUN],
        env=os.environ | environment | (more or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process, port
    finally:
        process.kill()
        process.communicate()


def test_it_runs_the_attempt_that_it_is_assigned_in_the_trace_of_its_dispatch(
    postgres_ledger_url: str, tmp_path: Path
) -> None:
    ledger = SqlLedger(create_engine(postgres_ledger_url))
    options = JobOptions(retry=EAGER, traceparent=TRACE)
    job = ledger.insert(new_job(runner="kubernetes", job_type="report", options=options))
    variables = PodAssignment(job.id, job.uid, 1, job_type="report").to_environment() | {"TRACEPARENT": TRACE}
    with (
        collecting() as collector,
        standby_pod(postgres_ledger_url, tmp_path, collector.environment("pod")) as (process, port),
    ):
        eventually(lambda: ask(port) == (200, {"state": "free"}), "the pod is ready", within=120)
        waiting = ledger.get(job.id)
        assert waiting is not None
        assert waiting.state is JobState.WAITING, "it has no job yet"
        assert ask(port, assignment_body(variables), verifier_of(SECRET)) == (401, None)
        assigned_at = time.time_ns()
        assert ask(port, assignment_body(variables)) == (200, {"state": "assigned"})
        output, _ = process.communicate(timeout=patient(120))
        claim, attempt = collector.one("claim report"), collector.one("process report")
    ended = ledger.get(job.id)
    ledger.engine.dispose()
    assert ended is not None
    assert (process.returncode, ended.state, ended.attempt) == (0, JobState.SUCCEEDED, 1), output
    assert ended.result == {"attempt": 1, "trace": TRACE, "pod": "default-standby-1-x"}
    assert output.splitlines().count(CLOSED) == 1
    assert {(span.trace_id, span.parent) for span in (claim, attempt)} == {tuple(TRACE.split("-")[1:3])}
    assert claim.began >= assigned_at, "the pod's wait for a job is no part of the claim"


def test_an_assignment_of_another_type_or_attempt_claims_nothing(postgres_ledger_url: str, tmp_path: Path) -> None:
    ledger = SqlLedger(create_engine(postgres_ledger_url))
    job = ledger.insert(new_job(runner="kubernetes", job_type="report"))
    variables = PodAssignment(job.id, job.uid, 1, job_type="invoice").to_environment()
    with standby_pod(postgres_ledger_url, tmp_path) as (process, port):
        eventually(lambda: ask(port) == (200, {"state": "free"}), "the pod is ready", within=120)
        assert ask(port, assignment_body(variables))[0] == 200
        process.communicate(timeout=patient(120))
    waiting = ledger.get(job.id)
    ledger.engine.dispose()
    assert waiting is not None
    assert (process.returncode, waiting.state) == (11, JobState.WAITING)


def test_it_ends_at_a_sigterm_and_when_its_application_cannot_be_imported(
    postgres_ledger_url: str, tmp_path: Path
) -> None:
    with standby_pod(postgres_ledger_url, tmp_path) as (process, port):
        eventually(lambda: ask(port) == (200, {"state": "free"}), "the pod is ready", within=120)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=patient(60))
    assert process.returncode == 14
    assert output.splitlines().count(CLOSED) == 1, "the application's middleware is closed"
    with standby_pod(postgres_ledger_url, tmp_path, {"SPOKE_APP": "no_such_app"}) as (process, port):
        output, _ = process.communicate(timeout=patient(120))
    assert process.returncode == 10
    assert "SPOKE_APP=no_such_app can't be imported" in output
