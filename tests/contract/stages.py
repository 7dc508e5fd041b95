"""The stages of runners that need no cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session
from tests.contract.app import metadata, registry
from tests.preloaded import Program
from tests.waiting import eventually, patient

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.tables import metadata as ledger_metadata
from spoke_jobs.model import JobRequest
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings


def application_engine(url: str) -> Engine:
    """The application's database, with its table."""
    engine = create_engine(url)
    metadata.create_all(engine)
    return engine


def async_twin(url: str) -> str:
    """The URL for an AsyncEngine on the same database."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        parsed = parsed.set(drivername="sqlite+aiosqlite")
    return parsed.render_as_string(hide_password=False)


class MemoryStage:
    """The memory runner, drained."""

    def __init__(self, url: str) -> None:
        self.engine = application_engine(url)
        self.async_url = async_twin(url)
        self.runner = MemoryRunner(Settings(), registry, sessions=lambda: Session(self.engine))

    def settle(self) -> None:
        self.runner.drain()

    def jobs(self) -> list[JobRequest]:
        return list(self.runner.jobs)


@contextmanager
def running_worker(url: str) -> Iterator[None]:
    """A worker in its own process, for all stages of a module that use this database, one after the other."""
    application_engine(url).dispose()
    process = Program(
        "worker",
        ["-m", "spoke_jobs", "worker", "--processes", "1"],
        env=os.environ
        | {"SPOKE_DATABASE_URL": url, "SPOKE_APP": "tests.contract.app:registry", "SPOKE_POLL_SECONDS": "0.05"},
    )
    try:
        yield
        assert process.poll() is None, "no job ends the worker"
        process.terminate()
        assert process.wait(patient(60)) == 0
    finally:
        process.kill()
        process.wait()


class LegacyStage:
    """The legacy runner in one of its modes: "sync", "same_process", or "worker" (see `running_worker`)."""

    def __init__(self, url: str, mode: str) -> None:
        self.engine = application_engine(url)
        self.async_url = async_twin(url)
        self._mode = mode
        settings = Settings(
            database_url=SecretStr(url),
            jobs_same_process=mode != "worker",
            jobs_sync=mode == "sync",
            tasks_sync=mode == "sync",
            poll_seconds=0.02,
        )
        self.runner = LegacyRunner(settings, registry)

    def settle(self) -> None:
        self.runner.finish_tasks()
        eventually(lambda: all(job.state.final for job in self.jobs()), "the end of all jobs", state=self.jobs)

    def jobs(self) -> list[JobRequest]:
        return list(reversed(self.runner.ledger.list_jobs(1000)))

    def close(self) -> None:
        """End what still runs; leave a worker's database empty to the next stage."""
        if self._mode == "worker":
            self.settle()
            with self.engine.begin() as connection:
                for table in (*reversed(ledger_metadata.sorted_tables), *metadata.sorted_tables):
                    connection.execute(table.delete())
        self.runner.close()
        self.engine.dispose()
