"""The commands on an SQLite ledger: what they do, what they print for programs, and their exit codes."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import insert, select, update
from tests.contract.ledger import new_job
from tests.unit.cli.conftest import Run, claimed, document, fail
from typer.testing import CliRunner

from spoke_jobs.cli.command_line import build_program
from spoke_jobs.cli.commands import arguments
from spoke_jobs.cluster.cluster_view import SpokeJobWaits
from spoke_jobs.ledger.columns.clock import clock_after
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import attempt_report, job_attempt, job_checkpoint, job_request
from spoke_jobs.model import CHECKPOINT, Failure, JobOptions, JobState

APP = "tests.contract.app:registry"


@pytest.fixture(autouse=True)
def _application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOKE_APP", APP)


class TestLs:
    @pytest.mark.parametrize(
        ("filters", "found"),
        [
            (["--failed"], [2]),
            (["--state", "failed", "--state", "running"], [3, 2]),
            (["--type", "ingest.*"], [5, 4]),
            (["--type", "ingest.csv"], [4]),
            (["--queue", "q"], [6]),
            (["--organization", "7"], [6]),
            (["--campaign", "8"], [5]),
            (["--cause", "Timeout"], [2]),
            (["--failed", "--type", "ingest.*"], []),
            (["--limit", "2"], [6, 5]),
        ],
    )
    def test_filters(self, ledger: SqlLedger, run: Run, filters: list[str], found: list[int]) -> None:
        ledger.insert(new_job())
        ledger.succeed(None, claimed(ledger).token, {"rows": 5})
        fail(ledger, cause="Timeout")
        ledger.insert(new_job())
        claimed(ledger)
        ledger.insert(new_job(job_type="ingest.csv"))
        ledger.insert(new_job(job_type="ingest.xml", campaign_id=8))
        ledger.insert(new_job(queue_name="q", organization_id=7))
        assert [job["id"] for job in document(run("ls", "--json", *filters))["jobs"]] == found
        assert [int(line.split("\t")[0]) for line in run("ls", *filters).stdout.splitlines()] == found


class TestShow:
    def test_all_there_is_but_the_payload(self, ledger: SqlLedger, run: Run) -> None:
        job_id = fail(ledger, tail="Traceback\nValueError: no")
        shown = document(run("show", job_id, "--json"))
        assert (shown["job"]["state"], shown["job"]["cause"], shown["job"]["percent"]) == ("failed", "JobError", 0)
        assert shown["options"]["retry"]["backoff_seconds"] == 0
        (attempt,) = shown["attempts"]
        assert (attempt["worker"], attempt["error_type"]) == ("host:1", "ValueError")
        assert attempt["output_tail"] == "Traceback\nValueError: no"
        assert (shown["payload"], shown["payload_bytes"]) == (None, 7)
        assert datetime.fromisoformat(shown["job"]["finished_at"]).tzinfo == UTC
        assert document(run("show", job_id, "--json", "--payload"))["payload"] == {"n": 1}

    def test_lines_for_programs(self, ledger: SqlLedger, run: Run) -> None:
        lines = run("show", fail(ledger, tail="Traceback\nValueError: no")).stdout.splitlines()
        assert lines[:3] == ["job\tid\t1", "job\ttype\treport", "job\tstate\tfailed: JobError"]
        assert "output\tValueError: no" in lines
        assert not any(line.startswith("payload\t") for line in lines)

    def test_what_the_job_has_saved(self, ledger: SqlLedger, run: Run) -> None:
        ledger.insert(new_job())
        claim = claimed(ledger)
        ledger.save(None, claim.token, {CHECKPOINT: '{"row":4000}', "charge": '"c1"', "receipt": "null"})
        lines = run("show", claim.job.id).stdout.splitlines()
        assert [line for line in lines if "c1" in line or "4000" in line] == [], "no values"
        saved, steps = (
            next(line for line in lines if line.startswith(f"job\t{name}")) for name in ("checkpoint", "steps")
        )
        assert re.fullmatch(r"job\tcheckpoint\tsaved .* by attempt 1 \(12 bytes\)", saved)
        assert steps.startswith("job\tsteps done\tcharge, receipt (the last one ")
        shown = document(run("show", claim.job.id, "--json"))["checkpoints"]
        assert [(row["name"], row["bytes"], row["attempt"]) for row in shown] == [
            ("", 12, 1),
            ("charge", 4, 1),
            ("receipt", 4, 1),
        ]

    def test_rows_that_other_code_wrote_in_any_number_are_not_all_read(self, ledger: SqlLedger, run: Run) -> None:
        job_id, saved_at = fail(ledger), datetime(2026, 1, 1, tzinfo=UTC)
        ledger.retry(job_id)
        ledger.save(None, claimed(ledger).token, {CHECKPOINT: "1"})
        with ledger.engine.begin() as connection:
            (row,) = connection.execute(select(job_attempt).where(job_attempt.c.run == 1)).mappings()
            forged = [dict(row) | {"id": 100 + number, "number": number, "token": uuid4()} for number in range(2, 400)]
            connection.execute(insert(job_attempt), forged)
            report = {"job_id": job_id, "run": 1, "created_at": saved_at, "cause": "JobError", "outputs": []}
            connection.execute(insert(attempt_report), [report | {"number": number} for number in range(1, 400)])
            step = {"job_id": job_id, "value": "1", "run": 1, "number": 1}
            steps = [step | {"name": f"s{n}", "saved_at": saved_at + timedelta(seconds=n)} for n in range(400)]
            connection.execute(insert(job_checkpoint), steps)
        shown = document(run("show", job_id, "--json"))
        attempts = [(attempt["run"], attempt["number"]) for attempt in shown["attempts"]]
        assert attempts == [*((1, number) for number in range(201, 400)), (2, 1)], "the newest"
        assert [report["number"] for report in shown["reports"]] == list(range(200, 400))
        assert [row["name"] for row in shown["checkpoints"]] == ["", *(f"s{number}" for number in range(200, 400))]
        assert "job\tattempts shown\tthe newest 200; earlier ones" in run("show", job_id).stdout

    @pytest.mark.parametrize(
        "arguments", [("show", 9), ("why", 9, "--json"), ("watch", 9), ("cancel", 9), ("retry", 9)]
    )
    def test_a_job_that_is_not_there(self, run: Run, arguments: tuple[object, ...]) -> None:
        result = run(*arguments, code=3)
        assert "there is no job 9" in result.stderr
        assert result.stdout == ""


class TestWhy:
    def test_a_held_queue(self, ledger: SqlLedger, run: Run) -> None:
        for _ in range(2):
            ledger.insert(new_job(queue_name="q", locks_queue=True))
        claimed(ledger)
        (reason,) = document(run("why", 2, "--json"))["reasons"]
        assert (reason["code"], reason["job_id"], reason["worker"]) == ("queue_lock", 1, "host:1")
        code, text, advice = run("why", 2).stdout.rstrip("\n").split("\t")
        assert (code, advice) == ("queue_lock", "spoke-jobs why 1")
        assert "job 1 (report)" in text

    def test_what_failed_with_its_output(self, ledger: SqlLedger, run: Run) -> None:
        job_id = fail(ledger, tail="Traceback\nValueError: no")
        explained = document(run("why", job_id, "--json"))
        assert (explained["reasons"][0]["code"], explained["output_tail"]) == ("failed", "Traceback\nValueError: no")
        assert run("why", job_id).stdout.splitlines()[1:] == ["output\tTraceback", "output\tValueError: no"]


class TestCancel:
    def test_waiting_running_ended_and_missing_ones(self, ledger: SqlLedger, run: Run) -> None:
        ledger.insert(new_job())
        claimed(ledger)
        ledger.insert(new_job())
        ended = fail(ledger, "other")
        result = run("cancel", 1, 2, ended, 99, 2, code=3)
        assert result.stdout.splitlines() == ["1\treport\tasked to stop", "2\treport\tcancelled"]
        assert "job 3 has already failed (JobError)" in result.stderr
        assert "there is no job 99" in result.stderr
        first, second = ledger.get(1), ledger.get(2)
        assert first is not None
        assert first.cancel_requested_at is not None
        assert second is not None
        assert second.cause == "Cancelled"
        run("cancel", ended, code=1)
        run("cancel", code=2)

    def test_those_that_filters_select(self, ledger: SqlLedger, run: Run) -> None:
        for job_type, queue in (("sync_people", "a"), ("sync_lists", "b"), ("report", "a"), ("sync_people", "b")):
            ledger.insert(new_job(job_type=job_type, queue_name=queue))
        claimed(ledger, "sync_lists")
        assert run("cancel", "--type", "sync_*", "--dry-run").stdout.splitlines() == [
            "2 waiting jobs of the type sync_people",
            "1 running job of the type sync_lists",
            "would cancel 3 jobs",
        ]
        asked = CliRunner(env={"SPOKE_DATABASE_URL": str(ledger.engine.url)})
        assert asked.invoke(build_program(["cancel"]), ["cancel", "--type", "sync_*"], input="").exit_code == 2
        assert run("cancel", "--type", "sync_*", "--queue", "b", "--yes").stdout.splitlines() == [
            "2\tsync_lists\tasked to stop",
            "4\tsync_people\tcancelled",
        ]
        assert [job.id for job in ledger.list_jobs() if job.state is JobState.WAITING] == [3, 1]
        assert "can't be combined with ids" in run("cancel", 1, "--dry-run", code=2).stderr
        assert [job.id for job in ledger.list_jobs() if job.state is JobState.WAITING] == [3, 1]
        assert "either job ids or at least one filter" in run("cancel", 1, "--type", "report", code=2).stderr
        assert "only unfinished" in run("cancel", "--state", "failed", code=2).stderr


class TestRunNow:
    def test_those_that_wait_for_their_time(self, ledger: SqlLedger, run: Run) -> None:
        at = datetime.now(UTC) + timedelta(hours=1)
        first, due = ledger.insert(new_job(run_after=at)), ledger.insert(new_job())
        result = run("run-now", first.id, due.id, 99, first.id, "--as", "ada", code=3)
        assert result.stdout == f"{first.id}\treport\tdue now\n"
        assert f"job {due.id} is due already: `spoke-jobs why {due.id}` says what it waits for" in result.stderr
        assert "there is no job 99" in result.stderr
        assert f"job {first.id} is due already" in run("run-now", first.id, code=1).stderr
        (event,) = document(run("events", "--json"))["events"]
        assert (event["actor"], event["action"], event["job_id"]) == ("ada", "run now", first.id)
        assert claimed(ledger).job.id == first.id
        run("run-now", code=2)


class TestPriority:
    def test_those_named(self, ledger: SqlLedger, run: Run) -> None:
        first, second = ledger.insert(new_job()), ledger.insert(new_job())
        assert run("priority", second.id, "--to", 5).stdout == f"{second.id}\treport\tpriority 5\n"
        assert claimed(ledger).job.id == second.id
        result = run("priority", first.id, second.id, 99, "--to", "-3", code=3)
        assert result.stdout == f"{first.id}\treport\tpriority -3\n"
        assert f"job {second.id} is running" in result.stderr
        assert "there is no job 99" in result.stderr
        assert document(run("show", first.id, "--json"))["job"]["priority"] == -3

    @pytest.mark.parametrize("arguments", [(1,), ("--to", 5), (1, "--to", 1001)])
    def test_what_names_no_job_or_no_priority(self, ledger: SqlLedger, run: Run, arguments: tuple[object, ...]) -> None:
        job = ledger.insert(new_job())
        run("priority", *arguments, code=2)
        assert ledger.get(job.id) == job


class TestSuspend:
    def test_those_named_until_they_are_resumed(self, ledger: SqlLedger, run: Run) -> None:
        first, second, ended = ledger.insert(new_job()), ledger.insert(new_job()), fail(ledger, "other")
        result = run("suspend", first.id, second.id, ended, 99, "--reason", "wait for it", "--as", "ada", code=3)
        assert result.stdout == f"{first.id}\treport\tsuspended\n{second.id}\treport\tsuspended\n"
        assert f"job {ended} has failed: `spoke-jobs retry {ended}` starts it again" in result.stderr
        assert "there is no job 99" in result.stderr
        (reason,) = document(run("why", first.id, "--json"))["reasons"]
        assert reason["code"] == "suspended"
        assert "by ada: wait for it" in reason["text"]
        assert reason["advice"] == f"to let it start: `spoke-jobs resume {first.id}`"
        assert re.match(r"waiting\tsuspended\t\t2\t\d+\tare suspended\t", run("why").stdout)
        assert document(run("show", first.id, "--json"))["job"]["suspended_at"] is not None
        assert "suspended" in run("show", first.id).stdout
        assert [row.endswith("\tsuspended") for row in run("ls").stdout.splitlines()] == [False, True, True]
        assert run("resume", first.id, second.id).stdout == (
            f"{first.id}\treport\tresumed\n{second.id}\treport\tresumed\n"
        )
        assert claimed(ledger).job.id == first.id
        assert f"job {first.id} is not suspended" in run("resume", first.id, code=1).stderr
        assert "there is no job 99" in run("resume", 99, code=3).stderr
        run("suspend", code=2)

    def test_the_jobs_that_wait_for_it_are_selected(self, ledger: SqlLedger, run: Run) -> None:
        held, free = ledger.insert(new_job()), ledger.insert(new_job())
        run("suspend", held.id)
        assert run("cancel", "--reason", "suspended", "--yes").stdout == f"{held.id}\treport\tcancelled\n"
        assert claimed(ledger).job.id == free.id

    @pytest.mark.parametrize("arguments", [("all", "type:report"), ("all", "1"), ("0",), ("reports",)])
    def test_resume_takes_one_scope_or_ids(self, ledger: SqlLedger, run: Run, arguments: tuple[str, ...]) -> None:
        job = ledger.insert(new_job())
        ledger.suspend(job.id)
        run("pause", "all", "--reason", "x")
        run("resume", *arguments, code=2)
        assert [limit.pause is None for limit in ledger.limits.all()] == [False]
        assert ledger.get(job.id) != job

    def test_a_reason_that_is_too_long(self, ledger: SqlLedger, run: Run) -> None:
        job = ledger.insert(new_job())
        assert "at most 200 characters" in run("suspend", job.id, "--reason", "x" * 201, code=1).stderr
        assert ledger.get(job.id) == job


class TestRetry:
    def test_those_named(self, ledger: SqlLedger, run: Run) -> None:
        failed = fail(ledger)
        ledger.insert(new_job())
        result = run("retry", failed, 2, code=1)
        assert result.stdout == f"{failed}\treport\twaiting, run 2\n"
        assert "job 2 is waiting: only a failed job can be retried" in result.stderr

    def test_checkpoints_are_kept_unless_they_are_to_be_cleared(self, ledger: SqlLedger, run: Run) -> None:
        for options, left in (([], 1), (["--clear-checkpoints"], 0)):
            ledger.insert(new_job())
            claim = claimed(ledger)
            ledger.save(None, claim.token, {CHECKPOINT: "7"})
            ledger.fail(claim.token, Failure("JobError", for_good=True), decide=True)
            run("retry", claim.job.id, *options)
            assert len(ledger.saved(claim.job.id)) == left
            ledger.cancel(claim.job.id)

    def test_all_failed_ones_that_the_filters_leave_the_oldest_first(self, ledger: SqlLedger, run: Run) -> None:
        timed_out = [fail(ledger, cause="Timeout") for _ in range(2)]
        other = fail(ledger)
        result = run("retry", "--failed", "--cause", "Timeout", "--yes")
        assert [int(line.split("\t")[0]) for line in result.stdout.splitlines()] == timed_out
        assert [job.id for job in ledger.list_jobs() if job.state is JobState.FAILED] == [other]
        assert run("retry", "--failed", "--cause", "Timeout").stdout == "no jobs match the filters\n"

    def test_a_limit_is_said(self, ledger: SqlLedger, run: Run) -> None:
        for _ in range(3):
            fail(ledger)
        assert "the newest 2" in run("retry", "--failed", "--limit", 2, "--yes").stderr

    def test_what_somebody_cancelled_stays_so_unless_it_is_asked_for(self, ledger: SqlLedger, run: Run) -> None:
        cancelled = ledger.insert(new_job()).id
        ledger.cancel(cancelled)
        failed = fail(ledger)
        assert run("retry", "--failed", "--yes").stdout == f"{failed}\treport\twaiting, run 2\n"
        assert run("retry", "--failed", "--cause", "Cancelled", "--yes").stdout.startswith(f"{cancelled}\t")

    def test_it_asks_and_a_dry_run_changes_nothing(self, ledger: SqlLedger, run: Run) -> None:
        fail(ledger)
        fail(ledger, "export")
        dry = run("retry", "--failed", "--dry-run").stdout.splitlines()
        assert dry == ["1 failed job of the type report", "1 failed job of the type export", "would retry 2 jobs"]
        refused = run("retry", "--failed", code=2)
        hint = "to retry 2 jobs without a question, add --yes (--dry-run only shows how many)"
        assert hint in " ".join(refused.stderr.split())
        assert {job.state for job in ledger.list_jobs()} == {JobState.FAILED}

    def test_one_whose_key_is_taken_keeps_no_other_from_starting(self, ledger: SqlLedger, run: Run) -> None:
        ledger.insert(new_job(unique_key="k"))
        ledger.fail(claimed(ledger).token, Failure("JobError", for_good=True), decide=True)
        ledger.insert(new_job(unique_key="k", job_type="newer"))
        other = fail(ledger)
        result = run("retry", 1, other, code=1)
        assert "job 1 can't be started again" in result.stderr
        assert result.stdout.startswith(f"{other}\t")

    @pytest.mark.parametrize("arguments", [(), ("1", "--failed"), ("1", "--type", "report"), ("1", "--dry-run")])
    def test_what_says_nothing_or_two_things(self, ledger: SqlLedger, run: Run, arguments: tuple[str, ...]) -> None:
        fail(ledger)
        run("retry", *arguments, code=2)
        assert [job.state for job in ledger.list_jobs()] == [JobState.FAILED]


def test_prune_deletes_what_is_over_and_only_that(ledger: SqlLedger, run: Run) -> None:
    ledger.insert(new_job(options=JobOptions(retention_seconds=0)))
    ledger.insert(new_job())
    for _ in range(2):
        ledger.succeed(None, claimed(ledger).token, None)
    ledger.insert(new_job(options=JobOptions(retention_seconds=0)))
    assert run("prune").stdout == "1\n"
    assert [job.id for job in ledger.list_jobs()] == [3, 2]
    assert run("prune").stdout == "0\n"
    assert "no job is in the queue 'nigthly'" in run("prune", "--queue", "nigthly", code=2).stderr


class TestPruneByHand:
    def test_what_is_younger_than_its_retention_is_deleted_only_if_that_is_confirmed(
        self, ledger: SqlLedger, run: Run
    ) -> None:
        for job_type in ("report", "export"):
            ledger.insert(new_job(job_type=job_type))
            ledger.succeed(None, claimed(ledger, job_type).token, None)
        older = ("prune", "--older-than", "0s")
        assert run(*older, "--dry-run").stdout.splitlines() == ["2 succeeded jobs", "would delete 2 jobs"]
        assert "without a question, add --yes" in " ".join(run(*older, code=2).stderr.split())
        assert len(ledger.list_jobs()) == 2
        assert run(*older, "--type", "rep*", "--yes").stdout == "1\n"
        assert [job.job_type for job in ledger.list_jobs()] == ["export"]

    def test_unfinished_jobs_are_not_deleted(self, run: Run) -> None:
        assert "only succeeded and failed jobs can be deleted" in run("prune", "--state", "running", code=2).stderr


class TestWhyOfAll:
    def test_waiting_and_failed_jobs_in_groups(self, ledger: SqlLedger, run: Run) -> None:
        for _ in range(2):
            ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(hours=1)))
        for _ in range(2):
            fail(ledger)
        lines = [line.split("\t") for line in run("why").stdout.splitlines()]
        assert [(line[0], line[1], line[3]) for line in lines] == [
            ("waiting", "due_later", "2"),
            ("failed", "JobError", "2"),
        ]
        assert lines[1][6].startswith("Fix the job or its input, then `spoke-jobs retry --failed --type report")
        assert lines[1][7] == "no"
        found = document(run("why", "--json"))
        assert found["period_seconds"] == 86_400
        assert [(group["state"], group["count"]) for group in found["groups"]] == [("waiting", 2), ("failed", 2)]
        assert "leave out the id" in run("why", 1, "--failed-within", "1h", code=2).stderr

    def test_a_cluster_that_was_not_read(self, ledger: SqlLedger, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        ledger.insert(new_job())
        assert document(run("why", "--json"))["incomplete"] == []
        ledger.insert(new_job(runner="kubernetes"))
        with ledger.engine.begin() as connection:
            connection.execute(update(job_request).values(submitted_at=clock_after(0)))
        for read, said in (
            (SpokeJobWaits(), []),
            (SpokeJobWaits(more=True), ["There are more SpokeJobs than were read; the ledger counts the rest."]),
            (SpokeJobWaits(problem="no route to it"), ["The cluster could not be read: no route to it"]),
        ):
            monkeypatch.setattr("spoke_jobs.cli.commands.job_groups.spokejob_waits", lambda read=read: read)
            result = run("why", "--json")
            assert document(result)["incomplete"] == result.stderr.splitlines() == said

    def test_all_with_one_fingerprint_are_retried(self, ledger: SqlLedger, run: Run) -> None:
        ids = []
        for place in ("KeyError@shop.f", "KeyError@shop.f", "KeyError@shop.g"):
            ledger.insert(new_job())
            failure = Failure("JobError", "no", "KeyError", for_good=True, fingerprint=place)
            claim = claimed(ledger)
            ledger.fail(claim.token, failure, decide=True)
            ids.append(claim.job.id)
        assert [job["id"] for job in document(run("ls", "--fingerprint", "KeyError@shop.g", "--json"))["jobs"]] == ids[
            2:
        ]
        run("retry", "--failed", "--fingerprint", "KeyError@shop.f", "--yes")
        states = {job.id: (job.state, job.fingerprint) for job in ledger.list_jobs()}
        assert states[ids[0]] == states[ids[1]] == (JobState.WAITING, "")
        assert states[ids[2]] == (JobState.FAILED, "KeyError@shop.g")

    def test_all_that_wait_for_one_reason_are_cancelled(self, ledger: SqlLedger, run: Run) -> None:
        later = ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(hours=1))).id
        other = ledger.insert(new_job(job_type="export", run_after=datetime.now(UTC) + timedelta(hours=1))).id
        due = ledger.insert(new_job(queue_name="q", locks_queue=True)).id
        behind = ledger.insert(new_job(queue_name="q", locks_queue=True)).id
        claimed(ledger)
        assert (
            run("cancel", "--reason", "due_later", "--type", "report", "--yes").stdout
            == f"{later}\treport\tcancelled\n"
        )
        assert run("cancel", "--reason", "queue_lock", "--yes").stdout == f"{behind}\treport\tcancelled\n"
        assert "is no reason to wait" in " ".join(
            run("cancel", "--reason", "due_lately", "--yes", code=2).stderr.split()
        )
        states = {job.id: job.state for job in ledger.list_jobs()}
        assert (states[other], states[due]) == (JobState.WAITING, JobState.RUNNING)

    @pytest.mark.parametrize("reason", ["Paused", "limit"])
    def test_a_reason_may_be_given_as_ls_prints_it(self, ledger: SqlLedger, run: Run, reason: str) -> None:
        job = ledger.insert(new_job(queue_name="q"))
        ledger.insert(new_job())
        if reason.lower() == "paused":
            run("pause", "queue:q", "--reason", "x")
        else:
            run("limits", "set", "queue:q", "--max-running", 0)
        assert run("cancel", "--reason", reason, "--yes").stdout == f"{job.id}\treport\tcancelled\n"

    def test_what_is_no_reason_to_wait_is_refused_with_those_that_there_are(self, ledger: SqlLedger, run: Run) -> None:
        def refused(reason: str) -> str:
            return " ".join(run("cancel", "--reason", reason, "--yes", code=2).stderr.split())

        assert "'running' is no reason to wait; no job waits" in refused("running")
        ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(hours=1)))
        ledger.insert(new_job())
        run("pause", "all", "--reason", "x")
        said = "no reason to wait (`--cause JobError` selects jobs that are tried again after it); jobs wait for: "
        assert f"{said}due_later, paused" in refused("JobError")
        assert run("cancel", "--reason", "ImageUnavailable", "--yes").stdout == "no jobs match the filters\n"


class TestStats:
    def test_lines_and_json(self, ledger: SqlLedger, run: Run) -> None:
        ledger.insert(new_job(job_type="export"))
        ledger.insert(new_job(job_type="export"))
        fail(ledger)
        first, second = (line.split("\t") for line in run("stats").stdout.splitlines())
        assert (first[0], first[1], first[3:6]) == ("export", "2", ["0", "0", "0"])
        assert (second[:6], len(second)) == (["report", "0", "-", "0", "0", "1"], 12)
        found = document(run("stats", "--json", "--by", "cause"))
        assert {group["name"]: group["failed"] for group in found["groups"]} == {"": 0, "JobError": 1}
        assert found["total"]["waiting"] == 2
        assert run("stats", "--type", "exp*").stdout.count("\n") == 1

    def test_blocked_jobs_are_counted_with_the_oldest(
        self, ledger: SqlLedger, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = ledger.insert(new_job(job_type="export"))
        blocked = [ledger.insert(new_job(after=(first.id,))) for _ in range(2)]
        lines = {line.split("\t")[0]: line.split("\t")[1:] for line in run("stats").stdout.splitlines()}
        assert (lines["report"][:2], lines["report"][9]) == (["0", "-"], "2")
        assert 0 <= float(lines["report"][10]) < 3600
        assert (lines["export"][0], lines["export"][9:]) == ("1", ["0", "-"])
        total = document(run("stats", "--json"))["total"]
        assert (total["waiting"], total["blocked"]) == (1, 2)
        assert datetime.fromisoformat(total["oldest_blocked_at"]) == blocked[0].created_at
        monkeypatch.setattr(arguments, "on_a_terminal", lambda: True)
        monkeypatch.setenv("COLUMNS", "200")
        shown = run("stats").stdout
        assert ", 2 blocked, 0 running" in shown
        assert "LONGEST" in shown
        ledger.cancel(first.id)
        assert "BLOCKED" not in run("stats").stdout

    def test_what_it_refuses(self, run: Run) -> None:
        assert "longer than 0 s" in run("stats", "--period", "0s", code=2).stderr
        assert "longer than 0 s" in run("why", "--failed-within", "0s", code=2).stderr
        assert "needs a terminal" in run("stats", "--watch", code=2).stderr
        assert "no job has the type" in run("stats", "--type", "nothing", code=2).stderr


class TestEvents:
    def test_who_did_what_and_when(self, ledger: SqlLedger, run: Run) -> None:
        ledger.insert(new_job())
        run("cancel", 1, "--as", "ada\x1b[31m")
        run("retry", 1)
        newest, oldest = document(run("events", "--json"))["events"]
        assert (oldest["actor"], oldest["action"], oldest["job_id"]) == ("ada\\x1b[31m", "cancel", 1)
        assert newest["actor"].endswith(f"@{socket.gethostname()}"), "the system's user"
        line = run("events", "--job", 1, "--action", "cancel").stdout.rstrip("\n").split("\t")
        assert line[1:] == ["ada\\x1b[31m", "cancel", "1", "report", "waiting"]
        assert "no event is by the user 'nobody'" in run("events", "--by", "nobody", code=2).stderr
        shown = run("show", 1).stdout
        assert "cancel\tby ada\\x1b[31m, " in shown
        assert "[31m cancelled the job" not in shown, "it was retried since"


class TestFilters:
    def test_by_the_time_of_the_dispatch(self, ledger: SqlLedger, run: Run) -> None:
        ledger.insert(new_job())
        assert len(document(run("ls", "--since", "1h", "--json"))["jobs"]) == 1
        assert document(run("ls", "--until", "1h", "--json"))["jobs"] == []
        assert document(run("ls", "--since", "2999-01-01T00:00Z", "--json"))["jobs"] == []
        assert "give 2026-03-01T09:00+01:00" in " ".join(run("ls", "--since", "noon", code=2).stderr.split())


def test_text_that_is_no_json_is_shown(ledger: SqlLedger, run: Run) -> None:
    job = ledger.insert(new_job(payload="H4sIAAAA"))
    assert document(run("show", job.id, "--payload", "--json"))["payload"] == "H4sIAAAA"
    assert "H4sIAAAA" in run("show", job.id, "--payload").stdout


def test_the_ledger_is_removed_and_made_again(ledger: SqlLedger, run: Run) -> None:
    assert "CREATE TABLE" not in run("migrate", "--dry-run").stdout
    assert "DROP TABLE queue_lock;" in run("migrate", "--downgrade", "--dry-run").stdout
    assert "is removed" in run("migrate", "--downgrade").stdout
    assert "CREATE TABLE queue_lock" in run("migrate", "--dry-run").stdout
    assert "there is no ledger" in run("migrate", "--downgrade", code=1).stderr
    assert "is up to date" in run("migrate").stdout
