"""A PostgreSQL server of a test's own, to be stopped and started."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from tests.ports import free_port
from tests.waiting import patient


def _programs() -> Path:
    if (found := shutil.which("initdb")) is not None:
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.fail("no PostgreSQL is installed: run scripts/postgres")
    return folders[-1]


class Server:
    """Made in a folder of its own, listening on this machine only."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="spoke-server-"))
        self._as: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self._folder, "postgres", "postgres")
            self._as = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"]
        self.port = free_port()
        self._call("initdb", "--username", "spoke", "--auth", "trust", "--no-sync", "--encoding", "UTF8")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://spoke@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=100"
        self._call("pg_ctl", "start", "--wait", "--log", str(self._folder / "log"), "--options", options)

    def stop(self) -> None:
        self._call("pg_ctl", "stop", "--wait", "--mode", "fast")

    def remove(self) -> None:
        subprocess.run(
            [*self._command("pg_ctl", "stop", "--mode", "immediate")], cwd="/", capture_output=True, check=False
        )
        shutil.rmtree(self._folder, ignore_errors=True)

    def _command(self, program: str, *more: str) -> list[str]:
        return [*self._as, str(_programs() / program), "--pgdata", str(self._folder / "data"), *more]

    def _call(self, program: str, *more: str) -> None:
        subprocess.run(
            self._command(program, *more), cwd="/", stdout=subprocess.DEVNULL, check=True, timeout=patient(120)
        )
