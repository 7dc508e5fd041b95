"""Who cancelled a job is shown, also if it ran: its attempt ends without knowing who asked it to stop."""

from __future__ import annotations

import json

import pytest
from tests.contract.ledger import new_job
from tests.unit.cli.conftest import Run, claimed, document

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, Failure


@pytest.fixture
def stopped(ledger: SqlLedger, run: Run) -> Claim:
    """A job that runs, and that ada has asked to stop."""
    ledger.insert(new_job())
    claim = claimed(ledger)
    run("cancel", claim.job.id, "--as", "ada")
    return claim


def _ends(ledger: SqlLedger, claim: Claim) -> None:
    ledger.fail(claim.token, Failure(Cause.CANCELLED, Cause.CANCELLED.meaning, for_good=True), decide=True)


def test_while_it_still_runs(stopped: Claim, run: Run) -> None:
    assert "ada asked it to stop " in run("why", stopped.job.id).stdout


@pytest.mark.parametrize("released", [False, True])
def test_after_its_end(ledger: SqlLedger, run: Run, stopped: Claim, released: bool) -> None:
    if released:
        ledger.release(stopped.token)
    else:
        _ends(ledger, stopped)
    said = run("why", stopped.job.id).stdout
    assert " ada cancelled the job." in said
    assert "Somebody" not in said
    assert "Its message" not in said
    assert document(run("why", stopped.job.id, "--json"))["job"]["message"] == "ada cancelled the job."
    assert run("ls").stdout.rstrip("\n").endswith("\tada cancelled the job.")
    assert document(run("ls", "--json"))["jobs"][0]["message"] == "ada cancelled the job."
    assert "message\tada cancelled the job.\n" in run("show", stopped.job.id).stdout
    assert document(run("watch", stopped.job.id, "--json", code=1))["jobs"][0]["message"] == "ada cancelled the job."


def test_of_a_waiting_job_it_is_said_once(ledger: SqlLedger, run: Run) -> None:
    job = ledger.insert(new_job())
    run("cancel", job.id, "--as", "ada")
    assert run("why", job.id).stdout.count("ada cancelled the job.") == 1
    assert "Somebody" not in run("why", job.id).stdout


def test_not_who_cancelled_it_before_a_retry(ledger: SqlLedger, run: Run, stopped: Claim) -> None:
    _ends(ledger, stopped)
    run("retry", stopped.job.id, "--as", "bob")
    again = claimed(ledger)
    _ends(ledger, again)  # its SpokeJob was cancelled with kubectl, which leaves no event
    assert json.loads(run("ls", "--json").stdout)["jobs"][0]["message"] == "Somebody cancelled the job."
    assert "Somebody cancelled the job." in run("why", stopped.job.id).stdout
