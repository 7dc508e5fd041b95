"""The stages of runners that need no cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from pydantic import SecretStr
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session
from tests.contract.app import metadata, registry

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.model import JobRequest
from spoke_jobs.runners.legacy_runner import LegacyRunner
from spoke_jobs.runners.memory_runner import MemoryRunner
from spoke_jobs.settings import Settings

_PATIENCE_SECONDS = 60.0


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


class LegacyStage:
    """The legacy runner in one of its modes: "sync", "same_process", or "worker" (a real one, in its own process)."""

    def __init__(self, url: str, mode: str) -> None:
        self.engine = application_engine(url)
        self.async_url = async_twin(url)
        self._url = url
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
        deadline = time.monotonic() + _PATIENCE_SECONDS
        self.runner.finish_tasks()
        while any(not job.state.final for job in self.jobs()):
            assert time.monotonic() < deadline, self.jobs()
            if self._mode == "worker":
                subprocess.run(
                    [sys.executable, "-m", "spoke_jobs", "worker", "--drain", "--processes", "1"],
                    env=os.environ | {"SPOKE_DATABASE_URL": self._url, "SPOKE_APP": "tests.contract.app:registry"},
                    check=True,
                    timeout=_PATIENCE_SECONDS,
                )
            else:
                time.sleep(0.01)

    def jobs(self) -> list[JobRequest]:
        return list(reversed(self.runner.ledger.list_jobs(1000)))

    def close(self) -> None:
        self.runner.close()
        self.engine.dispose()
