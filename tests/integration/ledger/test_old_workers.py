"""Workers of the first release go on while the ledger is migrated: the real ones, from the repository's history."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, text
from sqlalchemy import create_engine as plain_engine
from tests.first_release import unpack
from tests.integration.ledger.test_migrations import FILL, FILL_ATTEMPTS, OLD_REVISION, OLD_ROWS, empty_url
from tests.waiting import eventually, patient

from spoke_jobs.ledger.engine import check_schema
from spoke_jobs.ledger.migrations import migrate

__all__ = ["empty_url"]

ROOT = Path(__file__).parents[3]
APP = """
import os, time
from pathlib import Path
import spoke_jobs
from spoke_jobs import job

(Path(os.environ["FOLDER"]) / f"code of {os.getpid()}").write_text(spoke_jobs.__file__)

@job("brief")
def brief(ctx, payload: dict):
    with (Path(os.environ["FOLDER"]) / "ran").open("a") as file:
        file.write(f"{ctx.job.id}\\n")
    time.sleep(payload["seconds"])
"""
INSERT = text("""
INSERT INTO job_request (payload, queue_name, job_type, updated_at, created_at, uid, state, runner, options)
SELECT cast(:payload AS text), 'work', 'brief', now(), now(), gen_random_uuid(), 'waiting', 'legacy', '{}'
FROM generate_series(1, :count)
""")
STATES = text("SELECT state, count(*) FROM job_request WHERE job_type = 'brief' GROUP BY 1")
RUNNING = text("SELECT count(*) FROM job_attempt WHERE state = 'running' AND lease_expires_at > now()")
ATTEMPTS = text("""
SELECT a.state, a.cause, count(*) FROM job_attempt a JOIN job_request r ON r.id = a.job_id
WHERE r.job_type = 'brief' GROUP BY 1, 2
""")
REST = text("SELECT state, count(*) FROM job_request WHERE job_type <> 'brief' GROUP BY 1")


@contextmanager
def worker(url: str, folder: Path, code: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        "SPOKE_DATABASE_URL": url,
        "SPOKE_APP": "old_app",
        "SPOKE_LEASE_SECONDS": "6",
        "PYTHONPATH": f"{code}:{folder}",
        "FOLDER": str(folder),
    }
    with log.open("ab") as file:
        command = [sys.executable, "-m", "spoke_jobs", "worker", "--processes", "2"]
        process = subprocess.Popen(command, env=os.environ | environment, stdout=file, stderr=file)
    try:
        yield process
        assert process.poll() is None, log.read_text()[-5000:]
    finally:
        process.terminate()
        process.wait(patient(60))


def insert(engine: Engine, count: int, seconds: float) -> None:
    with engine.connect() as connection:
        connection.execute(INSERT, {"count": count, "payload": f'{{"seconds": {seconds}}}'})


def states(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(STATES)}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_what_workers_of_the_first_release_run_during_the_migration_ends_once(empty_url: URL, tmp_path: Path) -> None:
    engine = plain_engine(empty_url, isolation_level="AUTOCOMMIT")
    url = empty_url.render_as_string(hide_password=False)
    code = tmp_path / "first/runner"
    unpack(tmp_path / "first", "runner/spoke_jobs")
    (tmp_path / "old_app.py").write_text(APP)
    migrate(engine, OLD_REVISION)
    with engine.connect() as connection:
        for statement in (FILL.replace("ROWS", str(OLD_ROWS)), FILL_ATTEMPTS, "ANALYZE"):
            connection.exec_driver_sql(statement)
        rest = {row[0]: row[1] for row in connection.execute(REST)}
    insert(engine, 300, 0.05)
    insert(engine, 4, 15)  # longer than their leases: old workers renew them before, during and after
    insert(engine, 300, 0.05)
    log = tmp_path / "old.log"
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(worker(url, tmp_path, code, log))
        eventually(lambda: states(engine).get("succeeded", 0) >= 300, "the long ones run", state=log.read_text)
        assert {file.read_text() for file in tmp_path.glob("code of *")} == {str(code / "spoke_jobs/__init__.py")}
        with engine.connect() as connection:
            live = eventually(lambda: connection.scalar(RUNNING) or None, "live leases", state=log.read_text)
        migrate(engine)
        check_schema(engine)
        insert(engine, 100, 0.05)  # by a process of the first release, too
        eventually(
            lambda: states(engine) == {"succeeded": 704}, "all end", state=lambda: (states(engine), log.read_text())
        )
        stack.enter_context(worker(url, tmp_path, ROOT / "runner", tmp_path / "new.log"))
        insert(engine, 100, 0.05)
        eventually(
            lambda: states(engine) == {"succeeded": 804}, "all end", state=lambda: (states(engine), log.read_text())
        )
    ran = (tmp_path / "ran").read_text().split()
    with engine.connect() as connection:
        attempts = [tuple(row) for row in connection.execute(ATTEMPTS)]
        assert {row[0]: row[1] for row in connection.execute(REST)} == rest
    print(f"\nFIGURE {OLD_ROWS} rows, {live} live leases of two old workers when the migration began")
    assert attempts == [("succeeded", "", 804)], "each job has one attempt"
    assert len(ran) == len(set(ran)) == 804
    assert "Traceback" not in log.read_text()
    engine.dispose()
