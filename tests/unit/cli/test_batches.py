"""`spoke-jobs batches`, and what `show`, `why` and `retry` print of jobs that depend on others, on an SQLite ledger."""

from __future__ import annotations

import json

from tests.contract.ledger import LEASE, new_job
from tests.unit.cli.conftest import Run

from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure, JobState


def test_a_batch_that_was_left_open_is_seen_and_closed(ledger: SqlLedger, run: Run) -> None:
    batch = ledger.open_batch("march", new_job())
    ledger.insert_many([new_job(batch_id=batch.id) for _ in range(2)])
    (claim, _) = ledger.claim_batch("legacy", ["report"], "w", LEASE, 2)
    ledger.succeed(None, claim.token, None)
    (line,) = run("batches", "ls").stdout.splitlines()
    assert line.split("\t")[:7] == ["1", "march", "open", "2", "1", "0", str(batch.then_id)]
    assert "blocked\tit follows batch 1 (march): 1 of 2 jobs ended; it is open" in run("why", batch.then_id).stdout
    assert "follows\tbatch 1 (march), 1 of 2 jobs ended" in run("show", batch.then_id).stdout
    assert run("batches", "close", batch.id).stdout == "batch 1 (march): closed\n"
    facts = dict(line.split("\t") for line in run("batches", "show", batch.id).stdout.splitlines())
    assert (facts["state"], facts["jobs"], facts["then"]) == ("closed", "2", f"job {batch.then_id}")
    assert facts["opened"].endswith(" ago)")
    assert facts["closed"].endswith(" ago)")
    assert "finished" not in facts
    assert json.loads(run("batches", "show", batch.id, "--json").stdout)["succeeded"] == 1
    assert json.loads(run("batches", "ls", "--json").stdout)["batches"][0]["then_id"] == batch.then_id
    assert "no batch 9" in run("batches", "show", 9, code=3).output
    assert "no batch 9" in run("batches", "close", 9, code=3).output


def events_of(run: Run) -> list[list[str]]:
    """Action, job and detail of the events, oldest first."""
    return [line.split("\t")[1:] for line in reversed(run("events").stdout.splitlines())]


def test_who_closes_a_batch_by_hand_is_recorded_once(ledger: SqlLedger, run: Run) -> None:
    by_code, by_hand = ledger.open_batch("code", None), ledger.open_batch("hand", None)
    ledger.insert(new_job(batch_id=by_hand.id))
    ledger.close_batch(by_code.id)
    assert events_of(run) == []
    run("batches", "close", by_hand.id, "--as", "ada")
    run("batches", "close", by_hand.id, "--as", "bob")
    assert events_of(run) == [["ada", "close batch", "-", "-", "batch 2 (hand), 0 of 1 jobs ended"]]


def test_a_cancelled_batch_ends_with_its_jobs_and_what_follows(ledger: SqlLedger, run: Run) -> None:
    batch = ledger.open_batch("march", new_job())
    first, second, third = ledger.insert_many([new_job(batch_id=batch.id) for _ in range(3)])
    (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE, 1)
    ledger.succeed(None, claim.token, None)
    (claim,) = ledger.claim_batch("legacy", ["report"], "w", LEASE, 1)
    asked = run("batches", "cancel", batch.id, "--dry-run").stdout.splitlines()
    assert sorted(asked[:-1]) == [f"1 {state} job of the type report" for state in ("blocked", "running", "waiting")]
    assert asked[-1] == "would cancel batch 1 (march)"
    assert "--yes" in run("batches", "cancel", batch.id, code=2).output
    lines = run("batches", "cancel", batch.id, "--yes", "--as", "ada").stdout.splitlines()
    assert lines == [
        f"{batch.then_id}\treport\tcancelled",
        f"{second.id}\treport\tasked to stop",
        f"{third.id}\treport\tcancelled",
    ]
    assert events_of(run) == [
        ["ada", "cancel batch", "-", "-", "batch 1 (march), 1 of 3 jobs ended"],
        ["ada", "cancel", str(batch.then_id), "report", "blocked"],
        ["ada", "cancel", str(second.id), "report", "running"],
        ["ada", "cancel", str(third.id), "report", "waiting"],
    ]
    then, now = ledger.get(batch.then_id or 0), ledger.batch(batch.id)
    assert then is not None
    assert now is not None
    assert (then.cause, now.finished_at) == ("Cancelled", None)
    ledger.fail(claim.token, Failure("Cancelled"), decide=True)
    assert "has finished" in run("batches", "cancel", batch.id, "--yes", code=1).output
    assert "no batch 9" in run("batches", "cancel", 9, code=3).output
    assert first.id not in {int(line.split("\t")[0]) for line in lines}


def test_after_a_failed_batch_the_advice_names_it_and_the_command_that_retries_its_failed_jobs(
    ledger: SqlLedger, run: Run
) -> None:
    batch = ledger.open_batch("march", new_job())
    jobs = [ledger.insert(new_job(batch_id=batch.id)) for _ in range(2)]
    ledger.close_batch(batch.id)
    apart = ledger.insert(new_job())
    for claim in ledger.claim_batch("legacy", ["report"], "w", LEASE, 3):
        ledger.fail(claim.token, Failure("JobError", "no", for_good=True), decide=True)
    then = batch.then_id
    code, text, advised = run("why", then).stdout.splitlines()[0].split("\t")
    assert code == "failed"
    assert "of batch 1 (march) failed" in text
    command = "spoke-jobs retry --failed --batch 1"
    assert advised == (
        f"Retry the failed jobs of batch 1: `{command}`; if somebody cancelled them, with `--cause Cancelled`. This "
        "job then waits for them again."
    )
    listed = [int(line.split("\t")[0]) for line in run("ls", "--failed", "--batch", 1).stdout.splitlines()]
    assert sorted(listed) == [job.id for job in jobs]
    retried = run(*command.split()[1:], "--yes").stdout.splitlines()
    assert retried == [f"{job.id}\treport\twaiting, run 2" for job in jobs]
    assert ledger.get(then or 0).state is JobState.BLOCKED  # type: ignore[union-attr]
    assert ledger.get(apart.id).state is JobState.FAILED  # type: ignore[union-attr]


def test_a_cancelled_batch_is_retried_with_what_follows(ledger: SqlLedger, run: Run) -> None:
    outer = ledger.open_batch("outer", new_job())
    inner = ledger.open_batch("inner", new_job(batch_id=outer.id))
    job = ledger.insert(new_job(batch_id=inner.id))
    ids = [outer.then_id, inner.then_id, job.id]
    assert ids == sorted(ids, key=str), "what follows was dispatched before"
    for batch in (outer, inner):
        ledger.close_batch(batch.id)
    assert run("cancel", "--type", "*", "--yes").stdout.splitlines() == [
        f"{inner.then_id}\treport\tcancelled",
        f"{outer.then_id}\treport\tfailed (DependencyFailed)",
        f"{job.id}\treport\tcancelled",
    ]
    result = run("retry", "--failed", "--cause", "Cancelled", "--yes")
    assert result.stderr == ""
    states = [found.state for found in ledger.list_jobs()]
    assert sorted(states) == ["blocked", "blocked", "waiting"]


def test_a_batch_without_jobs_is_cancelled_before_what_follows_starts(ledger: SqlLedger, run: Run) -> None:
    batch = ledger.open_batch("march", new_job())
    assert run("batches", "cancel", batch.id, "--yes").stdout == f"{batch.then_id}\treport\tcancelled\n"
    then, now = ledger.get(batch.then_id or 0), ledger.batch(batch.id)
    assert then is not None
    assert now is not None
    assert (then.cause, now.finished_at is None) == ("Cancelled", False)


def test_a_retry_says_in_which_batch_its_job_counts_again(ledger: SqlLedger, run: Run) -> None:
    batch = ledger.open_batch("march", None)
    job = ledger.insert(new_job(batch_id=batch.id))
    run("batches", "cancel", batch.id, "--yes")
    run("retry", job.id)
    assert events_of(run)[-1][-1] == "run 2, unfinished again in batch 1"


def test_what_a_job_depends_on_is_shown_and_retried_first(ledger: SqlLedger, run: Run) -> None:
    first = ledger.insert(new_job())
    job = ledger.insert(new_job(after=(first.id,)))
    assert f"needs\t0\t{first.id}\treport\twaiting" in run("show", job.id).stdout
    (dependency,) = json.loads(run("show", job.id, "--json").stdout)["dependencies"]
    assert (dependency["job_id"], dependency["needs_id"], dependency["state"]) == (job.id, first.id, "waiting")
    assert f"job {first.id} (report) is waiting" in run("why", job.id).stdout
    run("cancel", first.id)
    assert f"depends on job {first.id} (report), which has failed" in run("retry", job.id, code=1).output
    lines = run("retry", first.id, job.id).stdout.splitlines()
    assert [line.split("\t")[2] for line in lines] == ["waiting, run 2", "blocked, run 2"]
