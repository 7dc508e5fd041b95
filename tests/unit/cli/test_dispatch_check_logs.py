"""`dispatch`, `check` and `logs` on an SQLite ledger: what they do and print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.commands import run_command
from tests.contract.ledger import new_job
from tests.unit.cli.conftest import Run, claimed, document, fail

from spoke_jobs.cli.commands import log_reader
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure

APP = "tests.contract.app:registry"


@pytest.fixture(autouse=True)
def _application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOKE_APP", APP)


class TestDispatch:
    def test_every_option_is_in_the_row(self, ledger: SqlLedger, run: Run) -> None:
        result = run(
            *("dispatch", "plain", "--payload", '{"a": [1]}', "--queue", "q", "--locks-queue", "--priority", "7"),
            *("--run-after", "2999-01-01T00:00+01:00", "--unique-key", "k", "--timeout", "5m", "--start-timeout", "1h"),
            *("--retention", "30d", "--retry", '{"budget": {"error": 9}}', "--organization", "3", "--campaign", "4"),
            *("--pod-template", "large", "--resources", '{"requests": {"memory": "1Gi"}}', "--json"),
            *("--labels", '{"team": "payments"}'),
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
        assert options.labels == {"team": "payments"}

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
            (["record", "--payload", '{"tex": "s3cr3t"}'], 1, "text is missing"),
            (["plain", "--priority", "2000"], 1, "priority is 2000"),
            (["plain", "--locks-queue"], 1, "has locks_queue=True and no queue"),
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


class TestLogs:
    """Without a cluster: what the ledger keeps."""

    def test_the_tail_of_the_newest_attempt(self, ledger: SqlLedger, run: Run) -> None:
        result = run("logs", fail(ledger, tail="Traceback\nValueError: no"))
        assert result.stdout == "Traceback\nValueError: no\n"
        assert "attempt 1: all that it printed is in the log of its worker, host:1" in result.stderr

    def test_following_one_that_has_failed_ends_with_one(self, ledger: SqlLedger, run: Run) -> None:
        result = run("logs", fail(ledger, tail="ValueError: no"), "--follow", code=1)
        assert result.stdout == "ValueError: no\n"
        assert "job 1 has failed with JobError: spoke-jobs why 1" in result.stderr

    def test_following_one_that_has_succeeded_ends_with_nought(self, ledger: SqlLedger, run: Run) -> None:
        ledger.insert(new_job())
        ledger.succeed(None, claimed(ledger).token, None)
        assert run("logs", 1, "-f").stdout == ""

    def test_following_one_that_runs_prints_each_line_once(
        self, ledger: SqlLedger, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The ledger has its tail, which grows, loses its begin, and ends with the traceback."""
        ledger.insert(new_job())
        token = claimed(ledger).token
        failure = Failure("JobError", "no", output_tail="nine\nTraceback\n", for_good=True)
        steps: list[Callable[[], object]] = [
            lambda: ledger.keep_output(token, "one\n"),
            lambda: ledger.keep_output(token, "one\ntwo\nthree\n"),
            lambda: ledger.keep_output(token, "three\nfour\n"),
            lambda: ledger.keep_output(token, "nine\n"),
            lambda: ledger.fail(token, failure, decide=True),
        ]
        pauses = SimpleNamespace(sleep=lambda _: steps.pop(0)() if steps else None)
        monkeypatch.setattr(log_reader, "time", pauses)
        result = run("logs", 1, "--follow", code=1)
        assert result.stdout.split() == ["one", "two", "three", "four", "nine", "Traceback"]
        assert result.stderr.count("the ledger does not keep some lines here") == 1

    def test_following_one_that_succeeds_prints_the_lines_that_are_stored_after_its_end(
        self, ledger: SqlLedger, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger.insert(new_job())
        token = claimed(ledger).token
        steps: list[Callable[[], object]] = [
            lambda: ledger.keep_output(token, "one\n"),
            lambda: ledger.succeed(None, token, None),
            lambda: None,
            lambda: None,
            lambda: ledger.keep_output(token, "one\ntwo\n", ended=True),
        ]
        pauses = SimpleNamespace(sleep=lambda _: steps.pop(0)() if steps else None)
        monkeypatch.setattr(log_reader, "time", pauses)
        assert run("logs", 1, "--follow").stdout.split() == ["one", "two"]

    def test_one_that_waits_says_for_what(self, ledger: SqlLedger, run: Run) -> None:
        ledger.insert(new_job(run_after=datetime.now(UTC) + timedelta(hours=1)))
        result = run("logs", 1)
        assert result.stdout == ""
        assert "job 1: it does not start before" in result.stderr

    def test_an_attempt_that_is_not_there(self, ledger: SqlLedger, run: Run) -> None:
        job_id = fail(ledger)
        assert "has no attempt 2 (attempts: 1)" in run("logs", job_id, "--attempt", 2, code=1).stderr

    def test_a_job_that_is_not_there(self, run: Run) -> None:
        assert "there is no job 9" in run("logs", 9, code=3).stderr


def test_check_does_not_pass_over_a_role_that_sqlite_cannot_have(ledger: SqlLedger, run: Run) -> None:
    assert "SQLite has no roles" in run("check", "--role", "jobs=shop_jobs", code=1).stderr


def test_check_names_the_settings_that_dispatching_tasks_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"JOB_RUNNER": "kubernetes", "SPOKE_SUBMIT": "sync", "SPOKE_APP": APP}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SPOKE_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    result = run_command(["check"])
    assert result.exit_code == 1
    assert "the application declares tasks, and none can be dispatched; set SPOKE_TASKS_URL" in result.output
