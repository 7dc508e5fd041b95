"""A ledger on SQLite, and the command line on it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.commands import run_command
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, claim_one, new_job
from typer.testing import Result

from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, Failure

Run = Callable[..., Result]


@pytest.fixture
def ledger(sqlite_ledger_url: str) -> Iterator[SqlLedger]:
    yield from open_ledger(sqlite_ledger_url)


@pytest.fixture
def run(sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a command with these arguments, and requires its exit code (0 by default)."""
    monkeypatch.setenv("SPOKE_DATABASE_URL", sqlite_ledger_url)

    def invoke(*arguments: object, code: int = 0, **options: Any) -> Result:
        result = run_command([*map(str, arguments)], **options)
        assert result.exit_code == code, (result.output, result.exception)
        assert "Traceback" not in result.stderr
        return result

    yield invoke
    for handler in logging.getLogger().handlers[:]:  # those of commands that configure the logs of a process
        if isinstance(handler, logging.StreamHandler) and getattr(handler.stream, "closed", False):
            logging.getLogger().removeHandler(handler)


def claimed(ledger: SqlLedger, job_type: str = "report") -> Claim:
    claim = claim_one(ledger, "legacy", [job_type], "host:1", LEASE)
    assert claim is not None
    return claim


def fail(ledger: SqlLedger, job_type: str = "report", cause: str = "JobError", tail: str = "") -> int:
    """A job that has failed for good; its id."""
    ledger.insert(new_job(job_type=job_type))
    claim = claimed(ledger, job_type)
    ledger.fail(claim.token, Failure(cause, "no", "ValueError", tail, for_good=True), decide=True)
    return claim.job.id


def document(result: Result) -> Any:
    return json.loads(result.stdout)
