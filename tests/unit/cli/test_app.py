"""The command line: what is wrong is said in a sentence that names it and the way out; exit codes are as documented."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.commands import run_command
from tests.contract.ledger import claim_one, new_job
from tests.waiting import patient

import spoke_jobs as spoke_jobs_package
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """`worker` and `tasks` set up logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def spoke_jobs(*arguments: str, **environment: str) -> Done:
    """Run a command in this process. It ends by itself, and not with an unexpected exception."""
    result = run_command(arguments, env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "spoke_jobs", *arguments],
        env={key: value for key, value in os.environ.items() if not key.startswith("SPOKE_")} | environment,
        capture_output=True,
        text=True,
        timeout=patient(60),
    )


APP = "tests.contract.app:registry"


class TestBadSetUp:
    @pytest.mark.parametrize("command", ["migrate", "check", "worker", "ls"])
    def test_no_database_is_named(self, command: str) -> None:
        done = spoke_jobs(command, SPOKE_APP=APP)
        assert done.returncode == 1
        assert "SPOKE_DATABASE_URL" in done.stderr
        assert "Traceback" not in done.stderr

    def test_without_the_database_why_says_where_the_cluster_s_view_is(self) -> None:
        away = {"SPOKE_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/nothing"}
        done = spoke_jobs("why", "42", SPOKE_NAMESPACE="shop", **away)
        assert done.returncode == 1
        assert "can't be reached" in done.stderr
        assert "`kubectl get spokejobs`" in done.stderr
        assert "TYPE-42-UID" in done.stderr
        assert "kubectl" not in spoke_jobs("why", "42", SPOKE_NAMESPACE="", **away).stderr

    @pytest.mark.parametrize("command", ["check", "worker", "ls"])
    def test_a_database_that_is_not_migrated(self, command: str, tmp_path: os.PathLike[str]) -> None:
        done = spoke_jobs(command, SPOKE_APP=APP, SPOKE_DATABASE_URL=f"sqlite:///{tmp_path}/new.sqlite3")
        assert done.returncode == 1
        assert "has no ledger yet: run `spoke-jobs migrate`" in done.stderr
        assert not list(Path(tmp_path).iterdir())

    @pytest.mark.parametrize("command", ["migrate", "check", "worker", "ls"])
    def test_a_database_that_does_not_answer(self, command: str) -> None:
        url = "postgresql://spoke:secret@127.0.0.1:1/none"
        done = spoke_jobs(command, SPOKE_APP=APP, SPOKE_DATABASE_URL=url)
        assert done.returncode == 1
        assert "127.0.0.1:1/none can't be" in done.stderr
        assert "secret" not in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("nonsense", "isn't a valid database URL"),
            ("mysql://a/b", "takes sqlite or postgresql"),
            ("sqlite://", "name a file"),
            ("sqlite:////no/such/folder/x.sqlite3", "can't be"),
        ],
    )
    def test_a_database_that_cannot_serve(self, url: str, words: str) -> None:
        done = spoke_jobs("migrate", SPOKE_DATABASE_URL=url)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("command", ["migrate", "check"])
    def test_a_password_in_the_query_is_not_shown(self, command: str) -> None:
        url = "postgresql://127.0.0.1:1/db?user=u&password=hunter2"
        done = spoke_jobs(command, SPOKE_APP=APP, SPOKE_DATABASE_URL=url)
        assert done.returncode == 1
        assert "127.0.0.1:1/db?user=***&password=*** can't be" in done.stderr
        assert "hunter2" not in done.stderr + done.stdout

    @pytest.mark.parametrize("name", ["[/foo]", "[tasks]"])
    def test_a_message_is_printed_as_it_is(self, name: str, sqlite_ledger_url: str) -> None:
        done = spoke_jobs("check", SPOKE_DATABASE_URL=sqlite_ledger_url, JOB_RUNNER=name)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: JOB_RUNNER='{name}': there is no such runner")

    @pytest.mark.parametrize(
        "environment", [{"JOB_RUNNER": ".foo"}, {"SPOKE_APP": ":x"}, {"SPOKE_DATABASE_URL": "postgresql://h:abc/db"}]
    )
    def test_a_name_that_is_none(self, environment: dict[str, str], sqlite_ledger_url: str) -> None:
        done = spoke_jobs("check", **{"SPOKE_DATABASE_URL": sqlite_ledger_url, "SPOKE_APP": APP} | environment)
        assert done.returncode == 1
        assert done.stderr.startswith("error: SPOKE_" if "JOB_RUNNER" not in environment else "error: JOB_RUNNER")
        assert "Traceback" not in done.stderr

    def test_no_application(self, sqlite_ledger_url: str) -> None:
        done = spoke_jobs("worker", SPOKE_DATABASE_URL=sqlite_ledger_url)
        assert done.returncode == 1
        assert "SPOKE_APP is not set" in done.stderr

    def test_an_unknown_runner(self, sqlite_ledger_url: str) -> None:
        done = spoke_jobs("check", SPOKE_DATABASE_URL=sqlite_ledger_url, SPOKE_APP=APP, JOB_RUNNER="cron")
        assert done.returncode == 1
        assert "'cron': there is no such runner; name one of kubernetes, legacy, memory" in done.stderr

    def test_a_ledger_of_another_release(self, sqlite_ledger_url: str) -> None:
        engine = create_engine(sqlite_ledger_url)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE spoke_jobs_version SET version_num = '9999'")
        engine.dispose()
        done = spoke_jobs("ls", SPOKE_DATABASE_URL=sqlite_ledger_url)
        assert done.returncode == 1
        assert "at migration 9999, this release needs" in done.stderr

    def test_a_pod_s_command_outside_a_pod(self) -> None:
        done = process("run")
        assert done.returncode == 10
        assert "SPOKE_REQUEST_UID is not set" in done.stderr

    def test_a_process_ends_as_its_command_does(self) -> None:
        done = process("worker", SPOKE_APP=APP)
        assert done.returncode == 1
        assert done.stderr.startswith("error: the runner 'legacy' is not fully configured; set SPOKE_DATABASE_URL")
        assert "Traceback" not in done.stderr

    def test_a_wrong_command_line(self) -> None:
        assert spoke_jobs("wokrer").returncode == 2
        assert spoke_jobs("worker", "--processes", "0").returncode == 2


def test_check_says_what_is_there(sqlite_ledger_url: str) -> None:
    done = spoke_jobs("check", SPOKE_DATABASE_URL=sqlite_ledger_url, SPOKE_APP=APP)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("legacy: configured", "job   record", "task  note", "migrated"))


def test_migrating_twice_is_migrating_once(tmp_path: os.PathLike[str]) -> None:
    url = f"sqlite:///{tmp_path}/new.sqlite3"
    for _ in range(2):
        done = spoke_jobs("migrate", SPOKE_DATABASE_URL=url)
        assert (done.returncode, "up to date" in done.stdout) == (0, True), done.stderr


def test_ls_shows_the_newest_jobs_a_line_each(sqlite_ledger_url: str) -> None:
    engine = create_engine(sqlite_ledger_url)
    ledger = SqlLedger(engine)
    for number in range(3):
        ledger.insert(new_job(queue_name=f"q{number}"))
    claim = claim_one(ledger, "legacy", ["report"], "w", 30)
    assert claim is not None
    ledger.fail(claim.token, Failure("InvalidPayload", "the name is missing", for_good=True), decide=True)
    engine.dispose()
    done = spoke_jobs("ls", "--limit", "2", SPOKE_DATABASE_URL=sqlite_ledger_url)
    assert [line.split("\t")[:4] for line in done.stdout.splitlines()] == [
        ["3", "report", "q2", "waiting"],
        ["2", "report", "q1", "waiting"],
    ]
    whole = spoke_jobs("ls", SPOKE_DATABASE_URL=sqlite_ledger_url).stdout.splitlines()[-1].split("\t")
    assert whole[3] == "failed"
    assert "InvalidPayload" in whole
    assert "the name is missing" in whole


def test_ls_keeps_a_job_on_its_line(sqlite_ledger_url: str) -> None:
    engine = create_engine(sqlite_ledger_url)
    ledger = SqlLedger(engine)
    ledger.insert(new_job(queue_name="two\nlines\tand a tab"))
    claim = claim_one(ledger, "legacy", ["report"], "w", 30)
    assert claim is not None
    ledger.fail(claim.token, Failure("JobError", "ValueError: a\r\n\tb\x1b[2J [/red]", for_good=True), decide=True)
    engine.dispose()
    (line,) = spoke_jobs("ls", SPOKE_DATABASE_URL=sqlite_ledger_url).stdout.splitlines()
    cells = line.split("\t")
    assert (len(cells), cells[2], cells[-1]) == (10, "two lines and a tab", "ValueError: a b\\x1b[2J [/red]")


def test_its_version() -> None:
    assert process("--version").stdout == f"spoke-jobs {spoke_jobs_package.__version__}\n"


def test_a_shell_completes_commands_and_options() -> None:
    def completed(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        return process(_SPOKE_JOBS_COMPLETE="complete_bash", **words).stdout.split()

    assert completed("spoke-jobs mi") == ["migrate"]
    assert completed("spoke-jobs worker --dr") == ["--drain"]


@pytest.mark.parametrize("where", ["/dev/full", "closed"])
def test_output_that_cannot_be_written_is_said_and_is_no_bug(where: str, sqlite_ledger_url: str) -> None:
    """The job exists: a script that took a traceback for a failure would dispatch it again."""
    output = "1>&-" if where == "closed" else f"1>{where}"
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m spoke_jobs pause all --reason upgrade {output}'],
        env=dict(os.environ) | {"SPOKE_DATABASE_URL": sqlite_ledger_url},
        stderr=subprocess.PIPE,
        text=True,
        timeout=patient(60),
    )
    assert "Traceback" not in done.stderr
    engine = create_engine(sqlite_ledger_url)
    assert len(SqlLedger(engine).limits.all()) == 1
    engine.dispose()
    if where == "/dev/full":
        assert done.returncode == 1
        assert "the output could not be written (No space left on device)" in done.stderr
