"""A value that the command line or the environment can't take: the option, the value and what is expected are named."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from sqlalchemy.exc import ProgrammingError
from tests.commands import run_command
from tests.conftest import open_ledger
from tests.contract.ledger import new_job

from spoke_jobs.cli.command_line import build_program
from spoke_jobs.cli.commands.command_classes import Consequential
from spoke_jobs.cli.commands.exits import reports_errors
from spoke_jobs.cli.commands.filter_options import closest


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["ls", "--limit", "0"], "Invalid value for '--limit': '0' is not a whole number from 1 to 10,000"),
        (["ls", "--organization", "a"], "Invalid value for '--organization': 'a' is not a whole number"),
        (["cancel", "--cause", "", "--yes"], "--cause: it is empty: is a variable of the shell not set?"),
        (["batches", "show", "10000000000000000000000"], "'10000000000000000000000' is not an id"),
        (["retry", "7", "--limit", "1"], "--limit needs --failed; it can't be combined with ids"),
        (
            ["ls", "--state", "failed", "--state", "done"],
            "Invalid value for '--state': 'done' is not one of 'blocked', 'waiting', 'running', 'succeeded', 'failed'",
        ),
        (["show", "x"], "Invalid value for 'ID': 'x' is not an id: give a whole number from 1"),
        (
            ["prune", "--older-than", "3y"],
            "Invalid value for '--older-than': '3y' is not a duration: give 90 (seconds), 90s, 5m, 2h or 7d",
        ),
        (["worker", "--grace", "x"], "Invalid value for '--grace': 'x' is not a number from 0"),
        (["worker", "--lane", "standby"], "--lane standby: the operator runs the jobs of this lane"),
        (["worker", "--worker-seconds", "5"], "--worker-seconds needs --lane worker"),
        (["worker", "--job-memory", "much"], "--job-memory much: expected an amount of memory such as 256Mi"),
        (["check", "--as", "me"], "Invalid value for '--as': 'me' is not one of 'runner', 'sync', 'reader'"),
    ],
)
def test_a_value_of_the_command_line(arguments: list[str], error: str) -> None:
    result = run_command(arguments)
    assert result.exit_code == 2
    assert error in result.stderr
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SPOKE_LEASE_SECONDS", "0.1", "a number from 0.5 to 3,600"),
        ("SPOKE_TASKS_PORT", "99999", "a whole number from 1 to 65,535"),
        ("JOBS_SYNC", "maybe", "true or false"),
        ("SPOKE_SUBMIT", "bogus", "'runner' or 'sync'"),
    ],
)
def test_a_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("SPOKE_DATABASE_URL", "sqlite:////secret/place")
    result = run_command(["ls"])
    assert result.exit_code == 1
    assert result.stderr == f"error: settings that can't be used: {name} is '{value}', where {expected} is expected\n"


class TestNamesThatNothingHas:
    """A mistyped type or cause is no filter that selects nothing."""

    @pytest.fixture(autouse=True)
    def _ledger(self, sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPOKE_DATABASE_URL", sqlite_ledger_url)
        monkeypatch.setenv("SPOKE_APP", "tests.contract.app:registry")
        for ledger in open_ledger(sqlite_ledger_url):
            job = ledger.insert(new_job(job_type="ingest.csv"))
            ledger.cancel(job.id, "ada@laptop")
            ledger.open_batch("import")

    @pytest.mark.parametrize(
        ("command", "filters", "error"),
        [
            ("stats", ["--type", "ingest.cvs"], "Did you mean 'ingest.csv'"),
            ("why", ["--queue", "9:*"], "no job is in a queue that matches '9:*'"),
            (
                "watch",
                ["--fingerprint", "ValueError at x.py"],
                "no job has the fingerprint 'ValueError at x.py': `spoke",
            ),
            ("cancel", ["--since", "1h", "--until", "2h"], "nothing is between them"),
            ("prune", ["--type", "ingest.cvs"], "Did you mean 'ingest.csv'"),
            ("sizes", ["--type", "ingest.cvs"], "Did you mean 'ingest.csv'"),
        ],
    )
    def test_by_every_command_that_selects_jobs(self, command: str, filters: list[str], error: str) -> None:
        result = run_command([command, *filters])
        assert result.exit_code == 2
        assert error in " ".join(result.stderr.split())

    @pytest.mark.parametrize(
        ("command", "error"),
        [
            (["outbox", "ls", "--name", "nosuch*"], "no task of the outbox has a name that matches 'nosuch*'"),
            (
                ["outbox", "retry", "--failed", "--name", "sfial"],
                "the application declares none. Did you mean 'sfail'?",
            ),
            (["outbox", "ls", "--cause", "TaskEror"], "docs/reference/causes.md. Did you mean 'TaskError'"),
            (["batches", "ls", "--name", "improt"], "no batch has the name 'improt'. Did you mean 'import'?"),
            (["batches", "ls", "--name", "inpo*"], "no batch has a name that matches 'inpo*'. Did you mean 'impo*'?"),
            (["events", "--by", "adaa@laptop"], "no event is by the user 'adaa@laptop'. Did you mean 'ada@laptop'?"),
            (["events", "--type", "ingest.cvs"], "Did you mean 'ingest.csv'"),
            (["events", "--since", "1h", "--until", "2h"], "nothing is between them"),
            (["batches", "ls", "--since", "1h", "--until", "2h"], "nothing is between them"),
            (["outbox", "retry", "--failed", "--since", "1h", "--until", "2h"], "nothing is between them"),
        ],
    )
    def test_of_tasks_batches_and_events(self, command: list[str], error: str) -> None:
        result = run_command(command)
        assert result.exit_code == 2
        assert error in " ".join(result.stderr.split())

    def test_of_schedules(self) -> None:
        result = run_command(["schedules", "ls", "nosuch*"])
        assert result.exit_code == 3
        assert "no schedule matches 'nosuch*'" in result.stderr

    @pytest.mark.parametrize(
        ("filters", "error"),
        [
            (["--cause", "timeuot"], "causes in docs/reference/causes.md. Did you mean 'Timeout'"),
            (
                ["--cause", "Paused"],
                "is a reason to wait, and no cause: `spoke-jobs why` groups the waiting jobs by re",
            ),
            (["--cause", "xyz"], "Invalid value for --cause: 'xyz' is none of the causes"),
            (["--type", "recrod"], "no job has the type 'recrod', and the application declares none. Did you mean 're"),
            (["--type", "ingest.cvs"], "Did you mean 'ingest.csv'"),
            (["--type", "ignest.*"], "matches 'ignest.*', and the application declares none. Did you mean 'ingest.*'?"),
            (["--type", "*.scv"], "matches '*.scv', and the application declares none. Did you mean '*.csv'?"),
            (["--type", "export.*"], "Invalid value for --type: no job has a type that matches 'export.*'"),
            (["--queue", "9:report"], "Invalid value for --queue: no job is in the queue '9:report'"),
            (["--queue", "9:*"], "Invalid value for --queue: no job is in a queue that matches '9:*'"),
            (["--batch", "999"], "Invalid value for --batch: no job is in batch 999"),
        ],
    )
    def test_is_refused_with_the_closest(self, filters: list[str], error: str) -> None:
        result = run_command(["ls", *filters])
        assert result.exit_code == 2
        assert error in " ".join(result.stderr.split())

    @pytest.mark.parametrize(
        ("pattern", "question"),
        [
            ("snyc_*", ". Did you mean 'sync_*'?"),
            ("snc_*", ". Did you mean 'sync_*'?"),
            ("SYNC_u*", ". Did you mean 'sync_u*'?"),
            ("*_usres", ". Did you mean '*_users'?"),
            ("snyc*users", ". Did you mean 'sync*users'?"),
            ("billing*", ""),
            ("*snyc*", ""),
        ],
    )
    def test_the_closest_pattern_matches_a_name(self, pattern: str, question: str) -> None:
        assert closest(pattern, ["sync_users", "sync_orders", "mail"]) == question

    @pytest.mark.parametrize(
        "filters",
        [["--cause", "Timeout"], ["--type", "record"], ["--type", "ingest.*"], ["--type", "ingest.csv"]],
    )
    def test_a_known_name_that_selects_nothing_is_no_error(self, filters: list[str]) -> None:
        result = run_command(["retry", "--failed", *filters])
        assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("typed", "suggestion"), [("shwo", "Did you mean 'show'"), ("purne", ""), ("cancle", ""), ("retyr", "'retry'")]
)
def test_a_mistyped_command_is_never_answered_with_one_that_ends_or_deletes(typed: str, suggestion: str) -> None:
    result = run_command([typed])
    assert result.exit_code == 2
    assert suggestion in result.stderr
    assert not any(name in result.stderr for name in ("'cancel'", "'prune'"))


def _groups() -> dict[str, Any]:
    """The program and its groups of commands, by their names."""
    whole: Any = typer.main.get_command(build_program([]))
    groups = {name: command for name, command in whole.commands.items() if hasattr(command, "commands")}
    return {"": whole, **groups}


GROUPS = _groups()
CONSEQUENTIAL = {
    "": {"cancel", "prune", "pause", "suspend"},
    "batches": {"cancel", "close"},
    "limits": {"apply", "reset"},
    "mutes": {"add"},
    "outbox": set(),
    "schedules": {"pause", "rm"},
}


@pytest.mark.parametrize("group", CONSEQUENTIAL)
def test_nor_is_one_of_a_group(group: str) -> None:
    commands = GROUPS[group].commands
    of_the_class = {name for name, command in commands.items() if isinstance(command, Consequential)}
    assert of_the_class == CONSEQUENTIAL[group]
    for name in commands:
        for typed in {name[1:], name[:-2] + name[:-3:-1]} - set(commands):
            stderr = run_command([*([group] if group else []), typed]).stderr
            assert not any(repr(one) in stderr.partition("Did you mean")[2] for one in of_the_class), typed


def test_every_group_of_commands_is_checked() -> None:
    assert set(GROUPS) == set(CONSEQUENTIAL)


def test_a_command_under_the_wrong_database_role_names_the_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    class Refused(Exception):
        sqlstate = "42501"

    @reports_errors
    def command() -> None:
        raise ProgrammingError("SELECT", {}, Refused("permission denied for table job_event\nLINE 1"))

    with pytest.raises(typer.Exit):
        command()
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error: the database returned an error: permission denied for table job_event. Commands")
    assert "`reader`" in said
    assert "`spoke-jobs migrate --grants`" in said
