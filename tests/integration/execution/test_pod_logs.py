"""The log of a job's pod in JSON: each line has the job's id, whoever writes it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.contract.ledger import new_job
from tests.pod_process import pod_environment, run_pod

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger

APP = """
import logging, threading
from spoke_jobs import job

@job("report")
def report(ctx, payload: dict):
    ctx.logger.warning("by its logger")
    logging.getLogger("shop").warning("by another", extra={"ratio": float("nan")})
    thread = threading.Thread(target=logging.getLogger("shop").warning, args=("by a thread",))
    thread.start()
    thread.join()
    raise ValueError("no")
"""


def test_each_line_has_the_job(postgres_ledger_url: str, tmp_path: Path) -> None:
    ledger = SqlLedger(create_engine(postgres_ledger_url))
    job = ledger.insert(new_job(runner="kubernetes"))
    (tmp_path / "logging_app.py").write_text(APP)
    environment = pod_environment(job, "logging_app", postgres_ledger_url, tmp_path)
    done = run_pod(environment | {"SPOKE_LOG_FORMAT": "json"})
    ledger.engine.dispose()
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    messages = " ".join(line["message"] for line in lines)
    assert all(word in messages for word in ("started", "by its logger", "by another", "by a thread", "JobError"))
    assert {(line["request_id"], line["run"], line["attempt"]) for line in lines} == {(job.id, 1, 1)}, lines
