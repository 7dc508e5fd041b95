"""The options that select jobs, tasks, batches and events by name, pattern and time work with each command."""

from __future__ import annotations

import shlex

import pytest
from tests.contract.ledger import new_job
from tests.unit.cli.conftest import Run, claimed, document, fail

from spoke_jobs.ledger.notices.notice_values import FailureGroup, GroupName
from spoke_jobs.ledger.outbox.task_outbox import insert_task
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure, JobOptions, JobState
from spoke_jobs.notices.notice_document import ReportedGroup

SINCE, UNTIL = ("--since", "1h"), ("--until", "1h")


def test_stats(ledger: SqlLedger, run: Run) -> None:
    ledger.insert_many([new_job(job_type="sync_a"), new_job(job_type="sync_b"), new_job(job_type="export")])
    assert document(run("stats", *SINCE, "--json"))["total"]["waiting"] == 3
    assert document(run("stats", *UNTIL, "--json"))["total"]["waiting"] == 0
    assert document(run("stats", "--type", "sync_*", "--json"))["total"]["waiting"] == 2


def test_stats_by_state(ledger: SqlLedger, run: Run) -> None:
    fail(ledger)
    ledger.insert_many([new_job(), new_job()])
    claimed(ledger)
    groups = document(run("stats", "--by", "state", "--json"))["groups"]
    shown = [(group["name"], group["waiting"], group["running"], group["failed"]) for group in groups]
    assert shown == [("failed", 0, 0, 1), ("running", 0, 1, 0), ("waiting", 1, 0, 0)]


def test_why_without_an_id(ledger: SqlLedger, run: Run) -> None:
    failed = fail(ledger, "export")
    ledger.insert_many([new_job(job_type="sync_a"), new_job(job_type="sync_b")])

    def found(*filters: object) -> list[tuple[str, int]]:
        groups = document(run("why", *filters, "--json"))["groups"]
        return [(group["state"], group["count"]) for group in groups]

    assert found() == found(*SINCE) == [("waiting", 2), ("failed", 1)]
    assert found(*UNTIL) == []
    assert found("--type", "sync_*") == [("waiting", 2)]
    assert found("--cause", "JobError") == [("failed", 1)]
    assert "leave out the id" in run("why", failed, "--type", "export", code=2).stderr


def test_watch(ledger: SqlLedger, run: Run) -> None:
    job = ledger.insert(new_job(job_type="sync_a"))
    claim = claimed(ledger, "sync_a")
    ledger.insert(new_job(job_type="export"))
    assert document(run("watch", *UNTIL, "--json"))["jobs"] == []
    ledger.succeed(None, claim.token, None)
    assert document(run("watch", "--type", "sync_*", "--json"))["jobs"] == [], "it has ended: it is not unfinished"
    assert "can't be combined with ids" in run("watch", job.id, "--type", "sync_*", code=2).stderr


def test_cancel_and_prune(ledger: SqlLedger, run: Run) -> None:
    fail(ledger)
    ledger.insert(new_job())
    assert run("cancel", "--cause", "JobError", "--yes").stdout == "no jobs match the filters\n"
    assert run("cancel", *UNTIL, "--yes").stdout == "no jobs match the filters\n"
    assert run("cancel", *SINCE, "--yes").stdout == "2\treport\tcancelled\n"
    assert run("prune", "--older-than", "0s", "--cause", "JobError", "--dry-run").stdout.endswith("delete 1 job\n")


def test_jobs_that_depend_on_each_other_are_all_cancelled(ledger: SqlLedger, run: Run) -> None:
    first = ledger.insert(new_job())
    second = ledger.insert(new_job(after=(first.id,)))
    third = ledger.insert(new_job(after=(second.id,)))
    result = run("cancel", "--type", "*", "--yes")
    assert result.stderr == "", "none of them ended before its turn"
    ended = [int(line.split("\t")[0]) for line in result.stdout.splitlines()]
    assert ended == [third.id, second.id, first.id]
    assert [ledger.get(job.id).cause for job in (first, second, third)] == ["Cancelled"] * 3  # type: ignore[union-attr]


@pytest.mark.parametrize("option", ["--organization", "--campaign"])
@pytest.mark.parametrize("number", [-1, 2**31])
def test_a_number_that_nothing_can_have_is_refused(run: Run, option: str, number: int) -> None:
    for command in ("ls", "stats", "why"):
        assert "is not a whole number from 0 to 2,147,483,647" in run(command, option, number, code=2).stderr


def test_a_fingerprint_alone_selects_failed_jobs(ledger: SqlLedger, run: Run) -> None:
    place = "ValueError at jobs.py:report"
    ledger.insert(new_job())
    claim = claimed(ledger)
    ledger.fail(claim.token, Failure("JobError", "no", fingerprint=place, for_good=True), decide=True)
    failed = claim.job.id
    assert "give job ids, or --failed" in run("retry", "--type", "report", code=2).stderr
    assert "give job ids, or --failed" in run("retry", failed, "--fingerprint", place, code=2).stderr
    assert run("retry", "--fingerprint", place, "--yes").stdout == f"{failed}\treport\twaiting, run 2\n"


def test_tasks(ledger: SqlLedger, run: Run) -> None:
    with ledger.engine.begin() as connection:
        insert_task(connection, "kubernetes", "send", "{}")
    assert run("outbox", "ls", *SINCE).stdout.count("\n") == 1
    assert document(run("outbox", "ls", *UNTIL, "--json"))["tasks"] == []
    assert run("outbox", "retry", "--failed", *SINCE, "--yes").stdout == "no failed tasks match the filters\n"


def test_batches(ledger: SqlLedger, run: Run) -> None:
    ledger.open_batch("import_people")
    ledger.open_batch("export")
    assert [one["name"] for one in document(run("batches", "ls", "--name", "import*", "--json"))["batches"]] == [
        "import_people"
    ]
    assert len(document(run("batches", "ls", *SINCE, "--json"))["batches"]) == 2
    assert document(run("batches", "ls", *UNTIL, "--json"))["batches"] == []


def test_events(ledger: SqlLedger, run: Run) -> None:
    for job_type in ("sync_a", "sync_b", "export"):
        ledger.cancel(ledger.insert(new_job(job_type=job_type)).id, f"{job_type}@laptop")
    assert run("events", "--by", "sync_*").stdout.count("\n") == 2
    assert run("events", "--type", "sync_*", *SINCE).stdout.count("\n") == 2
    assert document(run("events", *UNTIL, "--json"))["events"] == []


def test_schedules(run: Run) -> None:
    options = ("--every", "1h")
    for name in ("nightly_a", "nightly_b", "hourly"):
        run("schedules", "add", name, "record", "--payload", '{"text": "x"}', *options, env={"SPOKE_APP": APP})
    assert [one["name"] for one in document(run("schedules", "ls", "nightly_*", "--json"))["schedules"]] == [
        "nightly_a",
        "nightly_b",
    ]


APP = "tests.contract.app:registry"


def test_the_commands_of_a_notice_select_the_jobs_of_its_group(ledger: SqlLedger, run: Run) -> None:
    """Those without a fingerprint are a group, too."""
    names = [
        GroupName("report", cause, fingerprint)
        for cause, fingerprint in (("JobError", ""), ("JobError", "ValueError@shop.f"), ("Timeout", ""))
    ]
    jobs = []
    for name in names:
        ledger.insert(new_job(job_type="report"))
        claim = claimed(ledger)
        failure = Failure(name.cause, "no", fingerprint=name.fingerprint, for_good=True)
        ledger.fail(claim.token, failure, decide=True)
        jobs.append(claim.job)
    for name, job in zip(names, jobs, strict=True):
        group = ReportedGroup.of(FailureGroup(name, job.created_at, job.created_at, job.id, 1), None, "")
        assert [one["id"] for one in document(run(*shlex.split(group.show)[1:], "--json"))["jobs"]] == [job.id]
        run(*shlex.split(group.retry)[1:], "--yes")
        states = {each.id: each.state for each in ledger.list_jobs()}
        assert [each.id for each in jobs if states[each.id] is JobState.WAITING] == [job.id]
        ledger.cancel(job.id)


def test_the_jobs_of_a_lane(ledger: SqlLedger, run: Run) -> None:
    pod, standby = (
        ledger.insert(new_job(runner="kubernetes", options=JobOptions(lane=lane))).id for lane in ("pod", "standby")
    )
    worker = ledger.insert(new_job(runner="kubernetes-worker", options=JobOptions(lane="worker"))).id
    for lane, job_id in (("pod", pod), ("standby", standby), ("worker", worker)):
        assert [job["id"] for job in document(run("ls", "--lane", lane, "--json"))["jobs"]] == [job_id]
    run("cancel", "--lane", "standby", "--yes")
    assert {job.id: job.state for job in ledger.list_jobs(9)}[standby] is JobState.FAILED
    assert {job.state for job in ledger.list_jobs(9) if job.id != standby} == {JobState.WAITING}
    assert "Invalid value" in run("ls", "--lane", "gone", code=2).stderr
