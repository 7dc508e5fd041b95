"""The commands on an SQLite ledger: what they do, what they print for programs, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, claim_one, new_job
from typer.testing import CliRunner, Result

from spoke_jobs.cli.command_line import app
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, Failure, JobOptions, JobState

Run = Callable[..., Result]
APP = "tests.contract.app:registry"


@pytest.fixture
def ledger(sqlite_ledger_url: str) -> Iterator[SqlLedger]:
    yield from open_ledger(sqlite_ledger_url)


@pytest.fixture
def run(sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SPOKE_DATABASE_URL", sqlite_ledger_url)
    monkeypatch.setenv("SPOKE_APP", APP)

    def invoke(*arguments: object, code: int = 0, **options: Any) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], **options)
        assert result.exit_code == code, (result.output, result.exception)
        assert "Traceback" not in result.stderr
        return result

    return invoke


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

    def test_an_unknown_state_is_a_wrong_command_line(self, run: Run) -> None:
        assert "'waiting', 'running', 'succeeded', 'failed'" in run("ls", "--state", "done", code=2).stderr


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

    @pytest.mark.parametrize(
        "arguments", [("show", 9), ("why", 9, "--json"), ("watch", 9), ("cancel", 9), ("retry", 9)]
    )
    def test_a_job_that_is_not_there(self, run: Run, arguments: tuple[object, ...]) -> None:
        result = run(*arguments, code=3)
        assert "there is no job 9" in result.stderr
        assert result.stdout == ""

    @pytest.mark.parametrize("given", ["0", "-1", "x", str(2**63)])
    def test_what_is_no_id(self, run: Run, given: str) -> None:
        run("show", "--", given, code=2)


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

    def test_a_lease_that_holds(self, ledger: SqlLedger, run: Run) -> None:
        ledger.insert(new_job())
        claimed(ledger)
        assert {reason["code"] for reason in document(run("why", 1, "--json"))["reasons"]} == {"running"}


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


class TestRetry:
    def test_those_named(self, ledger: SqlLedger, run: Run) -> None:
        failed = fail(ledger)
        ledger.insert(new_job())
        result = run("retry", failed, 2, code=1)
        assert result.stdout == f"{failed}\treport\twaiting, run 2\n"
        assert "job 2 is waiting: only a failed job can be retried" in result.stderr

    def test_all_failed_ones_that_the_filters_leave_the_oldest_first(self, ledger: SqlLedger, run: Run) -> None:
        timed_out = [fail(ledger, cause="Timeout") for _ in range(2)]
        other = fail(ledger)
        result = run("retry", "--failed", "--cause", "Timeout")
        assert [int(line.split("\t")[0]) for line in result.stdout.splitlines()] == timed_out
        assert [job.id for job in ledger.list_jobs() if job.state is JobState.FAILED] == [other]
        assert run("retry", "--failed", "--cause", "Timeout").stdout == ""

    def test_a_limit_is_said(self, ledger: SqlLedger, run: Run) -> None:
        for _ in range(3):
            fail(ledger)
        assert "the newest 2" in run("retry", "--failed", "--limit", 2).stderr

    def test_one_whose_key_is_taken_keeps_no_other_from_starting(self, ledger: SqlLedger, run: Run) -> None:
        ledger.insert(new_job(unique_key="k"))
        ledger.fail(claimed(ledger).token, Failure("JobError", for_good=True), decide=True)
        ledger.insert(new_job(unique_key="k", job_type="newer"))
        other = fail(ledger)
        result = run("retry", 1, other, code=1)
        assert "job 1 can't be started again" in result.stderr
        assert result.stdout.startswith(f"{other}\t")

    @pytest.mark.parametrize("arguments", [(), ("1", "--failed"), ("1", "--type", "report")])
    def test_what_says_nothing_or_two_things(self, run: Run, arguments: tuple[str, ...]) -> None:
        run("retry", *arguments, code=2)


def test_prune_deletes_what_is_over_and_only_that(ledger: SqlLedger, run: Run) -> None:
    ledger.insert(new_job(options=JobOptions(retention_seconds=0)))
    ledger.insert(new_job())
    for _ in range(2):
        ledger.succeed(None, claimed(ledger).token, None)
    ledger.insert(new_job(options=JobOptions(retention_seconds=0)))
    assert run("prune").stdout == "1\n"
    assert [job.id for job in ledger.list_jobs()] == [3, 2]
    assert run("prune").stdout == "0\n"


class TestDispatch:
    def test_every_option_is_in_the_row(self, ledger: SqlLedger, run: Run) -> None:
        result = run(
            *("dispatch", "plain", "--payload", '{"a": [1]}', "--queue", "q", "--locks-queue", "--priority", "7"),
            *("--run-after", "2999-01-01T00:00+01:00", "--unique-key", "k", "--timeout", "5m", "--start-timeout", "1h"),
            *("--retention", "30d", "--retry", '{"budget": {"error": 9}}', "--organization", "3", "--campaign", "4"),
            *("--pod-template", "large", "--resources", '{"requests": {"memory": "1Gi"}}', "--json"),
        )
        job = ledger.get(document(result)["job"]["id"])
        assert job is not None
        assert (job.job_type, job.payload, job.queue_name, job.locks_queue) == ("plain", '{"a":[1]}', "q", True)
        assert (job.priority, job.unique_key, job.organization_id, job.campaign_id) == (7, "k", 3, 4)
        assert job.run_after == datetime(2998, 12, 31, 23, tzinfo=UTC)
        options = job.options
        assert (options.timeout_seconds, options.start_timeout_seconds) == (300, 3600)
        assert options.retention_seconds == timedelta(days=30).total_seconds()
        assert options.retry.allowance(CauseClass.ERROR) == 9
        assert (options.pod_template, options.resources) == ("large", {"requests": {"memory": "1Gi"}})

    def test_what_is_left_out_is_as_declared(self, ledger: SqlLedger, run: Run) -> None:
        assert run("dispatch", "fail").stdout == "1\tfail\twaiting\n"
        job = ledger.get(1)
        assert job is not None
        assert job.options.retry.backoff_seconds == 0
        assert (job.payload, job.locks_queue) == ("null", False)

    def test_the_payload_from_a_file_and_from_standard_input(self, ledger: SqlLedger, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "payload.json"
        file.write_text('{"text": "from a file"}')
        run("dispatch", "record", "--payload", f"@{file}")
        run("dispatch", "record", "--payload", "-", input='{"text": "piped"}')
        texts = [json.loads(job.payload)["text"] for job in ledger.list_jobs()]
        assert texts == ["piped", "from a file"]

    def test_the_row_of_the_job_that_has_its_key(self, run: Run) -> None:
        first = run("dispatch", "plain", "--unique-key", "k").stdout
        assert run("dispatch", "plain", "--unique-key", "k").stdout == first

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["nope"], 1, "no job is registered as 'nope'"),
            (["record", "--payload", '{"tex": "s3cr3t"}'], 1, "text: Field required"),
            (["plain", "--priority", "2000"], 1, "priority is 2000"),
            (["plain", "--locks-queue"], 1, "is to lock its queue and names none"),
            (["plain", "--payload", "{"], 2, "isn't JSON"),
            (["plain", "--run-after", "2026-01-01"], 2, "has no time zone"),
            (["plain", "--timeout", "soon"], 2, "is not a duration"),
            (["plain", "--retry", '{"budget": {"err": 1}}'], 2, "none of error"),
            (["plain", "--resources", "["], 2, "isn't JSON"),
            ([], 2, "TYPE"),
        ],
    )
    def test_what_can_not_be_dispatched(
        self, ledger: SqlLedger, run: Run, arguments: list[str], code: int, words: str
    ) -> None:
        result = run("dispatch", *arguments, code=code)
        assert words in result.stderr.replace("\n", " ")
        assert "s3cr3t" not in result.output
        assert ledger.list_jobs() == []

    def test_a_runner_that_ends_with_the_process(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JOB_RUNNER", "memory")
        assert "set another runner" in run("dispatch", "plain", code=1).stderr

    def test_a_job_that_a_thread_runs_here_is_waited_for(
        self, ledger: SqlLedger, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("JOBS_SAME_PROCESS", "1")
        run("dispatch", "plain", "--payload", '"back"')
        job = ledger.get(1)
        assert job is not None
        assert (job.state, job.result) == (JobState.SUCCEEDED, "back")

    def test_a_job_that_runs_here_has_ended(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JOBS_SAME_PROCESS", "1")
        monkeypatch.setenv("JOBS_SYNC", "1")
        job = document(run("dispatch", "plain", "--payload", '"back"', "--json"))["job"]
        assert (job["state"], job["result"]) == ("succeeded", "back")

    def test_whoever_waits_sees_the_end(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JOBS_SAME_PROCESS", "1")
        (job,) = document(run("dispatch", "spoke_jobs.check", "--payload", "7", "--wait", "--json"))["jobs"]
        assert (job["state"], job["result"]) == ("succeeded", {"checked": 7})
        once = ("--retry", '{"budget": {"error": 1}}')
        assert "failed" in run("dispatch", "fail", "--wait", *once, code=1).stdout


class TestCheck:
    def test_all_that_is_wrong_is_named_at_once(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPOKE_APP", "no.such.module")
        monkeypatch.setenv("JOB_RUNNER", "cron")
        monkeypatch.setenv("SPOKE_DATABASE_URL", "sqlite:////no/such/folder/x.sqlite3")
        stderr = run("check", code=1).stderr
        assert stderr.count("error:") == 3
        assert all(word in stderr for word in ("no module 'no'", "'cron': there is no such runner", "no ledger yet"))
        checked = document(run("check", "--json", code=1))
        assert [checked["ok"], *(checked[part]["ok"] for part in ("runner", "application", "ledger"))] == [False] * 4

    def test_a_database_that_is_missing_is_named_once(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SPOKE_DATABASE_URL")
        assert run("check", code=1).stderr.count("SPOKE_DATABASE_URL") == 1

    def test_what_is_there(self, run: Run) -> None:
        checked = document(run("check", "--json"))
        assert checked["ok"]
        assert "record" in checked["jobs"]
        assert "note" in checked["tasks"]

    def test_an_application_that_can_not_be_imported(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "broken_app.py").write_text("import json\nvalue = json.loads('{')\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("SPOKE_APP", "broken_app")
        stderr = run("check", code=1).stderr
        assert "SPOKE_APP=broken_app can't be imported: JSONDecodeError" in stderr

    def test_no_secret_is_told(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPOKE_DATABASE_URL", "postgresql://spoke:hunter2@127.0.0.1:1/none?password=hunter2")
        assert "hunter2" not in run("check", "--json", code=1).output


class TestLogs:
    """Without a cluster: what the ledger keeps."""

    def test_the_tail_of_the_newest_attempt(self, ledger: SqlLedger, run: Run) -> None:
        result = run("logs", fail(ledger, tail="Traceback\nValueError: no"))
        assert result.stdout == "Traceback\nValueError: no\n"
        assert "attempt 1: its worker, host:1, writes what jobs print to its own output" in result.stderr

    def test_following_one_that_has_failed_ends_with_one(self, ledger: SqlLedger, run: Run) -> None:
        result = run("logs", fail(ledger, tail="ValueError: no"), "--follow", code=1)
        assert result.stdout == "ValueError: no\n"
        assert "job 1 has failed with JobError: spoke-jobs why 1" in result.stderr

    def test_following_one_that_has_succeeded_ends_with_nought(self, ledger: SqlLedger, run: Run) -> None:
        ledger.insert(new_job())
        ledger.succeed(None, claimed(ledger).token, None)
        assert run("logs", 1, "-f").stdout == ""

    def test_one_that_waits_says_for_what(self, ledger: SqlLedger, run: Run) -> None:
        ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(hours=1)))
        result = run("logs", 1)
        assert result.stdout == ""
        assert "job 1: it is not to be started before" in result.stderr

    def test_an_attempt_that_is_not_there(self, ledger: SqlLedger, run: Run) -> None:
        job_id = fail(ledger)
        assert "has no attempt 2 (attempts: 1)" in run("logs", job_id, "--attempt", 2, code=1).stderr

    def test_a_job_that_is_not_there(self, run: Run) -> None:
        assert "there is no job 9" in run("logs", 9, code=3).stderr
