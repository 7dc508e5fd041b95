"""`why` without an id, with 100,000 waiting jobs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text
from tests.bench.claims import new_job
from tests.bench.control.claims import limit_organizations
from tests.bench.lib.database import ledger_database

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.model import Failure

WAITING = 100_000
_KINDS = 50
_FAILED = 200
_DAY = 86_400.0


@contextmanager
def waiting_jobs() -> Iterator[Engine]:
    """A ledger with so many waiting jobs of some kinds, failed ones, locked queues and limits."""
    with ledger_database() as engine:
        ledger = SqlLedger(engine)
        limit_organizations(ledger, 10)
        ledger.insert_many([new_job() for _ in range(_FAILED)])
        for claim in ledger.claim_batch("legacy", ["report"], "w", _DAY, _FAILED):
            error = Failure(Cause.JOB_ERROR, "no", for_good=True, fingerprint=f"{claim.job.id % 20:08x}")
            ledger.fail(claim.token, error, decide=True)
        ledger.insert_many(
            [
                new_job(
                    job_type=f"type{number % 10}",
                    queue_name=f"queue{number % 7}",
                    locks_queue=number % 5 == 0,
                    organization_id=995 + number % 10,
                )
                for number in range(_KINDS)
            ]
        )
        ledger.claim_batch("legacy", ["type0", "type5"], "w", _DAY, 5)
        names = ", ".join(column.name for column in job_request.columns if column.name not in ("id", "uid"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            kinds = connection.scalar(text("SELECT count(*) FROM job_request WHERE state = 'waiting'")) or 1
            connection.execute(
                text(
                    f"INSERT INTO job_request ({names}) SELECT {names} FROM job_request, "
                    f"generate_series(2, {WAITING // kinds}) WHERE state = 'waiting'"
                )
            )
            connection.execute(text("VACUUM ANALYZE"))
        yield engine


def why_ms(engine: Engine) -> tuple[float, float]:
    """Milliseconds of the queries, and of the whole command with its start."""
    began = time.perf_counter()
    crowd = Queries(engine).crowd(_DAY)
    queries = time.perf_counter() - began
    assert sum(each.count for each in crowd.waiting) > 0.9 * WAITING
    environment = os.environ | {
        "JOB_RUNNER": "legacy",
        "SPOKE_DATABASE_URL": engine.url.render_as_string(hide_password=False),
    }
    environment.pop("SPOKE_APP", None)
    command = [str(Path(sys.executable).with_name("spoke-jobs")), "why"]
    began = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return queries * 1000, (time.perf_counter() - began) * 1000
