"""`spoke-jobs watch` and `stats` on a ledger that changes meanwhile (on PostgreSQL: tests/integration/cli)."""

from __future__ import annotations

import json
import signal

from tests.contract.ledger import LEASE, new_job
from tests.contract.terminal import spoke_jobs
from tests.unit.cli.conftest import claimed

from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure, Progress


def test_a_line_for_each_change_until_all_have_ended(sqlite_ledger_url: str, ledger: SqlLedger) -> None:
    for _ in range(2):
        ledger.insert(new_job())
    first = claimed(ledger)
    with spoke_jobs(sqlite_ledger_url, "watch") as watch:
        watch.wait_for("2\treport\twaiting\t0")
        ledger.heartbeat(first.token, LEASE, Progress(42, "half-way"))
        watch.wait_for("1\treport\trunning\t42\t1\t-\thalf-way")
        ledger.succeed(None, first.token, {"rows": 5})
        watch.wait_for('1\treport\tsucceeded\t100\t1\t-\t{"rows": 5}')
        assert watch.process.poll() is None, "one is left"
        second = claimed(ledger)
        ledger.fail(second.token, Failure("JobError", "ValueError: no", for_good=True), decide=True)
        assert watch.ended() == 1, "one has failed"
        assert "2\treport\tfailed\t0\t1\tJobError\tValueError: no" in watch.text


def test_one_document_once_those_named_have_ended(sqlite_ledger_url: str, ledger: SqlLedger) -> None:
    for _ in range(2):
        ledger.insert(new_job())
    first = claimed(ledger)
    with spoke_jobs(sqlite_ledger_url, "watch", first.job.id, "--json") as watch:
        ledger.succeed(None, first.token, {"rows": 5})
        assert watch.ended() == 0, "the other one is not watched"
        (job,) = json.loads(watch.text)["jobs"]
        assert (job["id"], job["result"]) == (first.job.id, {"rows": 5})


def test_bars_on_a_terminal(sqlite_ledger_url: str, ledger: SqlLedger) -> None:
    ledger.insert(new_job())
    claim = claimed(ledger)
    with spoke_jobs(sqlite_ledger_url, "watch", columns=100) as watch:
        ledger.heartbeat(claim.token, LEASE, Progress(50, "half-way"))
        watch.wait_for("50 %  running")
        assert "━━━━━━━━━━" in watch.text
        ledger.succeed(None, claim.token, None)
        assert watch.ended() == 0
        assert "1 succeeded" in watch.text


def test_ctrl_c_ends_it_in_order(sqlite_ledger_url: str, ledger: SqlLedger) -> None:
    ledger.insert(new_job())
    with spoke_jobs(sqlite_ledger_url, "watch") as watch:
        watch.wait_for("waiting")
        watch.process.send_signal(signal.SIGINT)
        assert watch.ended() == 130
        assert "Traceback" not in watch.text


def test_statistics_that_follow(sqlite_ledger_url: str, ledger: SqlLedger) -> None:
    ledger.insert(new_job())
    with spoke_jobs(sqlite_ledger_url, "stats", "--watch", columns=100) as stats:
        stats.wait_for("1 job waiting")
        ledger.insert_many([new_job(job_type="export"), new_job()])
        stats.wait_for("3 jobs waiting")
        claim = claimed(ledger)
        stats.wait_for("2 jobs waiting")
        ledger.succeed(None, claim.token, None)
        stats.wait_for("0 running; 1 succeeded and 0 failed")
        stats.process.send_signal(signal.SIGINT)
        assert stats.ended() == 130
        assert "Traceback" not in stats.text


def test_tables_on_a_terminal(sqlite_ledger_url: str, ledger: SqlLedger) -> None:
    ledger.insert(new_job())
    claim = claimed(ledger)
    tail = "Traceback\nValueError: [/red] no"
    ledger.fail(claim.token, Failure("JobError", "ValueError: [/red] no", "ValueError", tail, True), decide=True)
    for command, words in (
        (("ls",), ("ID", "AGE", "failed", "JobError", "ValueError: [/red] no")),
        (("show", 1), ("failed: JobError", "host:1", "output of attempt 1", "ValueError: [/red] no")),
        (("why", 1), ("It failed with JobError", "→", "ValueError: [/red] no")),
    ):
        with spoke_jobs(sqlite_ledger_url, *command, columns=100) as shown:
            assert shown.ended() == 0
            assert all(word in shown.text for word in words), shown.text
