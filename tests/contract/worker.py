"""What `spoke-jobs worker` must do, with real processes. Subclass it with a fixture ``site``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tests.contract import rough_app

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.model import JobData, JobRequest, JobState
from spoke_jobs.runners.legacy import LegacyRunner
from spoke_jobs.settings import Settings

PATIENCE_SECONDS = 60.0
LEASE_SECONDS = 2.0


class Site:
    """A database, and workers on it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.engine = create_engine(url)
        rough_app.metadata.create_all(self.engine)
        self.runner = LegacyRunner(Settings(database_url=SecretStr(url)), rough_app.registry)
        self._environment = os.environ | {
            "SPOKE_DATABASE_URL": url,
            "SPOKE_APP": "tests.contract.rough_app:registry",
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
    def worker(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker, killed at the end if it is still there."""
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "spoke_jobs", "worker", *options],
                env=self._environment,
                stderr=log,
                stdout=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @property
    def log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, (self.runner.ledger.list_jobs(5), self.log)
            time.sleep(0.02)

    def wait_for(self, job_id: int, state: JobState) -> JobRequest:
        self.wait(lambda: self.row(job_id).state is state)
        return self.row(job_id)

    def pid_of(self, job_id: int) -> int:
        """The process that runs the job: it says so in its progress message."""
        self.wait(lambda: self.row(job_id).result_message.startswith("pid "))
        return int(self.row(job_id).result_message.removeprefix("pid "))


class WorkerContract:
    """A job's fault is that job's own, and the worker goes on."""

    def test_jobs_run_and_the_worker_ends_when_told(self, site: Site) -> None:
        jobs = [site.dispatch("succeed", n) for n in range(10)]
        with site.worker("--processes", "2") as worker:
            for n, job_id in enumerate(jobs):
                assert site.wait_for(job_id, JobState.SUCCEEDED).result == n
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE_SECONDS) == 0

    def test_a_child_killed_amid_its_job_is_noticed_at_once_and_the_job_runs_again(self, site: Site) -> None:
        job_id = site.dispatch("hang_once")
        with site.worker("--processes", "1"):
            os.kill(site.pid_of(job_id), signal.SIGKILL)
            site.wait_for(job_id, JobState.SUCCEEDED)
        assert site.causes(job_id) == ["Killed", ""]

    def test_a_whole_worker_killed_is_noticed_by_the_next_once_the_lease_has_lapsed(self, site: Site) -> None:
        job_id = site.dispatch("hang_once")
        with site.worker("--processes", "1"):
            site.pid_of(job_id)
        # leaving the block killed the worker with its children
        with site.worker("--processes", "1"):
            site.wait_for(job_id, JobState.SUCCEEDED)
        assert site.causes(job_id) == ["WorkerLost", ""]

    @pytest.mark.parametrize(
        ("job_type", "cause"),
        [
            ("raise", "JobError"),
            ("sys_exit", "JobExited"),
            ("os_exit", "JobExited"),
            ("kill_itself", "Killed"),
            ("exit_zero", "JobExited"),
        ],
    )
    def test_a_job_that_ends_badly_is_final_with_its_cause_and_the_worker_goes_on(
        self, site: Site, job_type: str, cause: str
    ) -> None:
        bad, good = site.dispatch(job_type), site.dispatch("succeed", "after it")
        with site.worker("--processes", "1"):
            job = site.wait_for(bad, JobState.FAILED)
            assert site.wait_for(good, JobState.SUCCEEDED).result == "after it"
        assert (job.cause, job.status, site.causes(bad)) == (cause, -1, [cause] * 3)

    def test_types_that_it_does_not_know_are_left_alone(self, site: Site) -> None:
        site.runner.registry = rough_app.newer_registry
        newer = site.dispatch("newer")
        site.runner.registry = rough_app.registry
        known = site.dispatch("succeed")
        with site.worker("--drain") as worker:
            assert worker.wait(PATIENCE_SECONDS) == 0
        assert (site.row(newer).state, site.row(known).state) == (JobState.WAITING, JobState.SUCCEEDED)

    def test_a_running_job_may_finish_after_sigterm(self, site: Site) -> None:
        job_id = site.dispatch("until_cancelled")
        with site.worker("--processes", "1") as worker:
            site.pid_of(job_id)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE_SECONDS) == 0
        assert site.row(job_id).result == "cleaned up"

    def test_a_job_that_does_not_stop_is_handed_back_after_the_grace_period(self, site: Site) -> None:
        job_id = site.dispatch("hang_once")
        with site.worker("--processes", "1", "--grace", "0.2") as worker:
            pid = site.pid_of(job_id)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE_SECONDS) == 0
        assert not Path(f"/proc/{pid}").exists()
        assert (site.row(job_id).state, site.causes(job_id)) == (JobState.WAITING, ["Interrupted"])

    def test_a_job_whose_claim_was_taken_is_stopped_in_its_process(self, site: Site) -> None:
        job_id = site.dispatch("hang_once")
        with site.worker("--processes", "1"):
            pid = site.pid_of(job_id)
            with site.engine.begin() as connection:
                connection.exec_driver_sql("UPDATE job_attempt SET state = 'failed', cause = 'WorkerLost'")
            site.wait(lambda: not Path(f"/proc/{pid}").exists())
        assert "another process holds the attempt, or it has ended" in site.log

    def test_an_application_that_cannot_be_imported_is_an_error_that_ends_the_worker(self, site: Site) -> None:
        site._environment["SPOKE_APP"] = "no_such_app"
        with site.worker() as worker:
            assert worker.wait(PATIENCE_SECONDS) == 1
        assert "there is no module 'no_such_app'" in site.log
