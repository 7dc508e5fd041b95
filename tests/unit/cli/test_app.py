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


NOWHERE = "postgresql://spoke:secret@127.0.0.1:1/none"


@pytest.mark.parametrize(
    ("command", "environment", "words"),
    [
        *((command, {}, "SPOKE_DATABASE_URL") for command in ("migrate", "check", "worker", "ls")),
        *((command, {"SPOKE_DATABASE_URL": NOWHERE}, "127.0.0.1:1/none can't be") for command in ("check", "ls")),
        ("migrate", {"SPOKE_DATABASE_URL": "nonsense"}, "isn't a valid database URL"),
        ("migrate", {"SPOKE_DATABASE_URL": "mysql://a/b"}, "takes sqlite or postgresql"),
        ("migrate", {"SPOKE_DATABASE_URL": "sqlite://"}, "name a file"),
        ("migrate", {"SPOKE_DATABASE_URL": "sqlite:////no/such/folder/x.sqlite3"}, "can't be"),
        ("check", {"SPOKE_DATABASE_URL": "postgresql://h:abc/db"}, "error: SPOKE_"),
        (
            "check",
            {"SPOKE_DATABASE_URL": "postgresql://127.0.0.1:1/db?user=u&password=secret"},
            "127.0.0.1:1/db?user=***&password=*** can't be",
        ),
        ("check", {"JOB_RUNNER": "[/foo]"}, "error: JOB_RUNNER='[/foo]': there is no such runner"),
        ("check", {"JOB_RUNNER": ".foo"}, "error: JOB_RUNNER"),
        ("check", {"SPOKE_APP": ":x"}, "error: SPOKE_APP"),
    ],
)
def test_what_cannot_serve_is_named(command: str, environment: dict[str, str], words: str) -> None:
    done = spoke_jobs(command, **{"SPOKE_APP": APP} | environment)
    assert done.returncode == 1
    assert words in done.stderr
    assert "secret" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_no_application(sqlite_ledger_url: str) -> None:
    done = spoke_jobs("worker", SPOKE_DATABASE_URL=sqlite_ledger_url)
    assert (done.returncode, "SPOKE_APP is not set" in done.stderr) == (1, True)


def test_without_the_database_why_says_where_the_cluster_s_view_is() -> None:
    done = spoke_jobs("why", "42", SPOKE_NAMESPACE="shop", SPOKE_DATABASE_URL=NOWHERE)
    assert done.returncode == 1
    for words in ("can't be reached", "`kubectl get spokejobs`", "TYPE-42-UID"):
        assert words in done.stderr
    assert "kubectl" not in spoke_jobs("why", "42", SPOKE_NAMESPACE="", SPOKE_DATABASE_URL=NOWHERE).stderr


def test_a_database_that_is_not_migrated_or_of_another_release(sqlite_ledger_url: str, tmp_path: Path) -> None:
    for command in ("check", "worker", "ls"):
        done = spoke_jobs(command, SPOKE_APP=APP, SPOKE_DATABASE_URL=f"sqlite:///{tmp_path}/new.sqlite3")
        assert done.returncode == 1
        assert "has no ledger yet: run `spoke-jobs migrate`" in done.stderr
        assert not (tmp_path / "new.sqlite3").exists()
    engine = create_engine(sqlite_ledger_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE spoke_jobs_version SET version_num = '9999'")
    engine.dispose()
    done = spoke_jobs("ls", SPOKE_DATABASE_URL=sqlite_ledger_url)
    assert done.returncode == 1
    assert "at migration 9999, this release needs" in done.stderr


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
