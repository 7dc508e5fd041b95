"""`spoke-jobs mutes` on an SQLite ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.cli.conftest import Run, fail

from spoke_jobs.ledger.sql_ledger import SqlLedger


def test_from_the_first_to_the_last(ledger: SqlLedger, run: Run) -> None:
    fail(ledger)
    assert run("mutes", "ls").stdout == ""
    added = run("mutes", "add", "--type", "rep*", "--cause", "JobError", "--until", "+2h", "--reason", " known \n ",
                "--as", "ada")  # fmt: skip
    assert added.stdout == "1\ttype rep*, cause JobError\tmuted\n"
    assert added.stderr == ""
    (row,) = run("mutes", "ls").stdout.splitlines()
    number, about, until, reason, by, _ = row.split("\t")
    assert (number, about, reason, by) == ("1", "type rep*, cause JobError", "known", "ada")
    assert timedelta(hours=1) < datetime.fromisoformat(until) - datetime.now(UTC) < timedelta(hours=3)
    (found,) = json.loads(run("mutes", "ls", "--json").stdout)["mutes"]
    assert (found["job_type"], found["cause"], found["fingerprint"]) == ("rep*", "JobError", None)
    assert run("mutes", "end", 1, "--as", "eve").stdout == "1\ttype rep*, cause JobError\tended\n"
    assert run("mutes", "ls").stdout == ""
    assert "there is no mute 1" in run("mutes", "end", 1, code=3).stderr
    events = [line.split("\t")[1:3] for line in run("events").stdout.splitlines()]
    assert events == [["eve", "unmute"], ["ada", "mute"]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--until", "+1h", "--reason", "x"), "give a type, a cause or a fingerprint"),
        (("--fingerprint", "", "--until", "+1h", "--reason", "x"), "is empty: that would mute all failures"),
        (("--cause", "JobError", "--type", " ", "--until", "+1h", "--reason", "x"), "is empty: that would mute all"),
        (("--cause", "JobError", "--reason", "x"), "--until"),
        (("--cause", "JobError", "--until", "+1h"), "--reason"),
        (("--cause", "JobError", "--until", "+1h", "--reason", " "), "the reason is empty"),
        (("--cause", "JobError", "--until", "+1h", "--reason", "x" * 201), "has 201 characters: give at most 200"),
        (("--cause", "JobError", "--until", "2020-01-01T00:00Z", "--reason", "x"), "is over: give a later time"),
        (("--cause", "JobError", "--until", "soon", "--reason", "x"), "is not a time"),
    ],
)
def test_what_a_mute_needs(run: Run, given: tuple[str, ...], said: str) -> None:
    assert said in " ".join(run("mutes", "add", *given, code=2).stderr.split())
    assert run("mutes", "ls").stdout == ""


def test_a_name_that_no_failed_job_has_is_pointed_out(ledger: SqlLedger, run: Run) -> None:
    fail(ledger)
    result = run("mutes", "add", "--type", "reprot", "--until", "+1h", "--reason", "x")
    assert "no failed job in the ledger matches" in result.stderr
