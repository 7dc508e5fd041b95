"""A database, and `spoke-jobs worker` on it, with real processes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tests.contract import rough_app, rough_loop
from tests.preloaded import Program
from tests.waiting import eventually

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.model import JobData, JobRequest, JobState
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.settings import Settings
from spoke_jobs.worker.supervisor import Supervisor
from spoke_jobs.worker.worker_options import WorkerOptions
from spoke_jobs.worker.worker_process import types_of

LEASE_SECONDS = 2.0


def processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only its remains."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid: int) -> list[int]:
    """The worker's child processes, once they run our code."""
    found = []
    for child in processes():
        with suppress(FileNotFoundError, ProcessLookupError):
            parent = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid and b"spoke_jobs.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


class FailingLedger:
    """A ledger, one of whose methods raises the errors that it is given, one at each call."""

    def __init__(self, ledger: Any, method: str, errors: list[Exception]) -> None:
        self._ledger = ledger
        self._method = method
        self._errors = errors

    def __getattr__(self, name: str) -> Any:
        if name == self._method and self._errors:
            raise self._errors.pop(0)
        return getattr(self._ledger, name)


class Site:
    """A database, and workers on it."""

    promised = False
    """Whether waits end after a minute, however busy the machine is."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.engine = create_engine(url)
        rough_app.metadata.create_all(self.engine)
        self.runner = LegacyRunner(Settings(database_url=SecretStr(url)), rough_loop.registry)
        self._environment = os.environ | {
            "SPOKE_DATABASE_URL": url,
            "SPOKE_APP": "tests.contract.rough_loop:registry",
            "SPOKE_LEASE_SECONDS": str(LEASE_SECONDS),
            "SPOKE_POLL_SECONDS": "0.05",
        }

    def close(self) -> None:
        self.runner.close()
        self.engine.dispose()

    def dispatch(self, job_type: str, payload: Any = None, **fields: Any) -> int:
        return self.runner.dispatch_job(JobData(job_type, payload, **fields)).id

    def row(self, job_id: int) -> JobRequest:
        job = self.runner.ledger.get(job_id)
        assert job is not None
        return job

    def causes(self, job_id: int) -> list[str]:
        return [attempt.cause for attempt in self.runner.ledger.attempts(job_id)]

    @contextmanager
    def worker(
        self, *options: str, folder: Path | None = None, program: Sequence[str] = ("-m", "spoke_jobs")
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A worker, killed at the end if it is still there."""
        with (self.folder / "worker.log").open("ab") as log:
            process = Program(
                "worker",
                [*program, "worker", *options],
                env=self._environment,
                stderr=log,
                stdout=log,
                start_new_session=True,
                cwd=folder,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for pid in processes():  # its children have groups of their own
                with suppress(ProcessLookupError):
                    if os.getsid(pid) == process.pid:
                        os.kill(pid, signal.SIGKILL)

    def gone(self) -> Exception:
        """What the driver raises where another keeps the database locked."""
        locked = sqlite3.OperationalError("database is locked")
        locked.sqlite_errorcode = sqlite3.SQLITE_BUSY
        return locked

    def work(self, monkeypatch: pytest.MonkeyPatch, method: str = "", errors: list[Exception] | None = None) -> None:
        """Run a worker's supervisor in this process until nothing is due."""
        for name, value in self._environment.items():
            monkeypatch.setenv(name, value)
        types, loop_types = types_of(rough_app.registry)
        ledger: Any = FailingLedger(self.runner.ledger, method, errors or [])
        options = WorkerOptions("legacy", types, 1, LEASE_SECONDS, 0.05, loop_types, drain=True)
        Supervisor(ledger, options).run()

    @property
    def log(self) -> str:
        return (self.folder / "worker.log").read_text()

    @property
    def logged(self) -> list[dict[str, Any]]:
        """The lines of a log in JSON."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def wait(self, condition: Callable[[], bool]) -> None:
        eventually(condition, promised=self.promised, state=self.described)

    def described(self) -> str:
        """The newest jobs with their attempts, and the worker's log: for a wait in vain."""
        ledger = self.runner.ledger
        jobs = [
            f"job {job.id} ({job.job_type}): {job.state}, {job.cause!r}, finished {job.finished_at}; attempts "
            + ", ".join(f"{attempt.number} {attempt.state} {attempt.cause!r}" for attempt in ledger.attempts(job.id))
            for job in ledger.list_jobs(5)
        ]
        return "\n".join([*jobs, self.log])

    def wait_for(self, job_id: int, state: JobState) -> JobRequest:
        self.wait(lambda: self.row(job_id).state is state)
        return self.row(job_id)

    def pid_of(self, job_id: int) -> int:
        """The process that runs the job: it says so in its progress message."""
        said: list[str] = []  # in one read: the job may say something else a moment later

        def says_so() -> bool:
            said.append(self.row(job_id).result_message)
            return said[-1].startswith("pid ")

        self.wait(says_so)
        return int(said[-1].removeprefix("pid "))
