"""The demonstration, as a newcomer runs it: a process of its own, with processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from tests.ports import free_port
from tests.waiting import eventually, patient

from texting.demo.checks import Check, check_table, import_checks
from texting.sample import make_sample

SETTINGS = ("SPOKE_DATABASE_URL", "TEXTING_CARRIER_URL", "JOB_RUNNER", "JOBS_SAME_PROCESS", "JOBS_SYNC", "TASKS_SYNC")


@contextmanager
def demonstration(folder: Path, *more: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    command = [sys.executable, "-m", "texting.demo", "--folder", str(folder), *more]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(patient(60))


def processes_of(folder: Path) -> list[str]:
    """The command lines of the processes that write into the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "fd/1").resolve().parent == folder:
                found.append((process / "cmdline").read_text().replace("\x00", " "))
        except OSError:
            continue  # it has ended meanwhile
    return found


def test_imports_sends_exports_checks_and_leaves_nothing_running(tmp_path: Path) -> None:
    folder, log = tmp_path / "demo", tmp_path / "log"
    with demonstration(folder, "--rows", "500", "--messages", "30", "--later", "make tea", log=log) as process:
        code = process.wait(patient(200))
    told = log.read_text()
    assert code == 0, told
    assert "all right" in told
    assert told.count(" ok") == 14
    assert "30 of 30 delivered" in told
    assert "no repeated messages dropped by the carrier" in told
    look, later, then = told.rstrip().splitlines()[-3:]
    command = f"SPOKE_DATABASE_URL=sqlite:///{folder}/demo.sqlite3 .venv/bin/spoke-jobs"
    assert look == f"Look at its jobs: {command} ls"
    assert later == "Later: make tea"
    assert then == f"Next: {command} web --insecure-local"
    assert processes_of(folder) == []


def test_with_web_it_ends_as_the_dashboard_of_its_jobs(tmp_path: Path) -> None:
    folder, log, port = tmp_path / "demo", tmp_path / "log", free_port()
    small = ("--rows", "100", "--messages", "5")
    with demonstration(folder, *small, "--web", str(port), log=log) as process:

        def page() -> str | None:
            assert process.poll() is None, log.read_text()
            try:
                return httpx.get(f"http://127.0.0.1:{port}/jobs", timeout=patient(30)).text
            except httpx.ConnectError:
                return None

        found = eventually(page, "the dashboard answers", within=200, state=log.read_text)
        assert "all right" in log.read_text()
        assert processes_of(folder) == [], "worker and carrier have been stopped"
    for job_type in ("import_contacts", "assign_texters", "start_campaign", "export"):
        assert f"<td>{job_type}</td>" in found


def test_interrupted_it_stops_what_it_started(tmp_path: Path) -> None:
    folder, log = tmp_path / "demo", tmp_path / "log"
    with demonstration(folder, log=log) as process:

        def imports() -> bool:
            assert process.poll() is None, log.read_text()
            return "import" in log.read_text()

        eventually(imports, "it imports", state=log.read_text)
        assert len(processes_of(folder)) >= 2
        process.send_signal(signal.SIGINT)
        assert process.wait(patient(60)) == 130
    assert "what was started has been stopped" in log.read_text()
    assert "Traceback" not in log.read_text()
    # A worker's child may end a moment after the worker.
    eventually(lambda: not processes_of(folder), "nothing runs on", state=lambda: processes_of(folder))


def test_a_wrong_number_is_told() -> None:
    sample = make_sample(200, seed=1)
    checks = import_checks(sample, sample.summary | {"invalid": 99}, contacts=sample.summary["loaded"])
    assert [check.what for check in checks if not check.holds] == ["rows invalid"]
    table = check_table([Check("rows", 1, 2)])
    assert [str(cell) for cell in table.columns[3].cells] == ["WRONG"]
