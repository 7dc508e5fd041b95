"""Run a recipe as its reader would: in processes of its own, on a database of the test."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from tests.preloaded import Program, completed
from tests.waiting import eventually, patient

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobRequest

RECIPES = Path(__file__).parents[3] / "examples" / "recipes"
GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket", "--timeout", "0")
"""Without its timeout of 30 s. On a busy machine the first request, for which modules are imported, may take longer:
gunicorn would kill the process that answers it."""

UVICORN = ("-m", "uvicorn", "asgi:application", "--host", "127.0.0.1", "--port", "0")


class Recipe:
    """The processes of one recipe, and the rows that they leave."""

    def __init__(self, name: str, url: str, folder: Path, app: str = "jobs") -> None:
        self.folder = RECIPES / name
        self.url = url
        self.engine: Engine = create_engine(url)
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.folder), os.environ.get("PYTHONPATH")])),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SPOKE_DATABASE_URL": url,
            "SPOKE_APP": app,
        }
        self._log = folder / "server.log"

    def python(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the folder; the test's own timeout bounds it."""
        done = completed("worker", arguments, cwd=self.folder, env=self.environment | environment)
        assert not check or done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
        return done

    def work(self) -> None:
        """Run the waiting jobs with `worker --drain`."""
        self.python("-m", "spoke_jobs", "worker", "--drain", "--processes", "1")

    def own_tests(self) -> None:
        """Run the recipe's own tests, by no configuration but theirs and without the plugins that only we install."""
        without = [f"-pno:{plugin}" for plugin in ("cacheprovider", "schemathesis", "hypothesispytest", "xdist")]
        self.python("-m", "pytest", "-q", "-c", os.devnull, "--rootdir", ".", *without, ".")

    @contextmanager
    def served(self, *arguments: str, **environment: str) -> Iterator[httpx.Client]:
        """Run a server in the folder; gives a client of it, which waits for an answer as long as the stage does."""
        with self._log.open("wb") as file:
            process = Program(
                "worker",
                arguments,
                cwd=self.folder,
                env=self.environment | environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            with httpx.Client(base_url=self._address(process), timeout=patient(60)) as client:
                yield client
        finally:
            process.terminate()
            try:
                process.wait(patient(60))
            finally:
                process.kill()
                print(self.said())

    def said(self) -> str:
        """The output of the server so far."""
        return self._log.read_text()

    def _address(self, process: subprocess.Popen[bytes]) -> str:
        def found() -> str | None:
            assert process.poll() is None, self.said()
            said = re.search(r"http://127\.0\.0\.1:\d+", self.said())
            return said[0] if said else None

        return eventually(found, "the server's address")

    def jobs(self) -> Sequence[JobRequest]:
        """All rows, oldest first."""
        return list(reversed(SqlLedger(self.engine).list_jobs(1000)))


MakeRecipe = Callable[..., Recipe]


def empty_database(url: str) -> str:
    """The same place without any table."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return url.replace("jobs.sqlite3", "empty.sqlite3")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()
    return url


def assert_the_dashboard_needs_a_session(client: httpx.Client, name: str, cookie: str) -> None:
    """Below /jobs, after a contact was uploaded. A cookie with another signature is none."""
    assert client.get("/jobs/").status_code in (401, 403)
    client.cookies.set(name, f"{cookie}x")
    assert client.get("/jobs/").status_code in (401, 403)
    client.cookies.clear()
    client.cookies.set(name, cookie)
    page = client.get("/jobs/jobs").text
    assert "<td>import_contacts</td>" in page
    assert '<a href="/jobs/jobs/1">1</a>' in page
