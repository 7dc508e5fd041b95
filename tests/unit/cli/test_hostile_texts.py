"""Whatever jobs, pods and servers wrote, no command prints a character that commands a terminal or is invisible."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from tests.commands import run_command
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, claim_one, new_job
from tests.unit.cli.api_server import answering, write_kubeconfig

from spoke_jobs.cli import printing
from spoke_jobs.cli.commands import arguments
from spoke_jobs.contract.limit_scopes import Scope, ScopeKind
from spoke_jobs.explain.words import line, lines
from spoke_jobs.ledger.cluster import reports
from spoke_jobs.ledger.limits_and_pauses.limit_rows import SqlLimits
from spoke_jobs.ledger.notices import mute_rows
from spoke_jobs.ledger.notices.notice_values import NewMute
from spoke_jobs.ledger.outbox.task_outbox import insert_task
from spoke_jobs.ledger.schedules import schedule_rows
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import StorableText, metadata
from spoke_jobs.limits.job_limit import Bounds
from spoke_jobs.model import AttemptReport, AttemptUsage, ContainerOutput, Failure
from spoke_jobs.schedules.schedule import Schedule
from spoke_jobs.schedules.timing import Every
from spoke_jobs.shared.clean_text import visible, visible_in_a_line, visible_json
from spoke_jobs.shared.log_setup import JsonFormatter, PlainFormatter, VisibleFormatter

_SIGNS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
"""Visible signs, although Unicode counts them as formats."""
EVERY_CHARACTER = "".join(map(chr, range(sys.maxunicode + 1)))
IGNORABLE = [
    *((0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
]
"""What Unicode draws as nothing: Default_Ignorable_Code_Point of Unicode 16.0, 4,174 code points."""
INVISIBLE = {chr(code) for first, last in IGNORABLE for code in range(first, last + 1)} | {"\u2800"}
CONTROL = "".join(
    char
    for char in EVERY_CHARACTER
    if char in INVISIBLE
    or (unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in f"\n\t{_SIGNS}")
)
STORABLE = "".join(char for char in CONTROL if char != "\x00" and unicodedata.category(char) != "Cs")
ATTACKS = (
    "\x1b]0;title\x07\x1b[2J\x1b[1;1H\x1b[8mhidden\x9b31m\x85\x7f",  # a title, a cleared screen, hidden text; C1
    "a\u202ecod.exe\u2066b\u2069\u200f\u061c",  # reversed
    "ad\u200bmin\ufeff\u2060\xad\U000e0041",  # no width
    "line\r\nerror: forged\n12\tforged\trow",
    "[/x] [link=https://example.com]a[/link] :skull:",  # rich's markup
)
quick = settings(max_examples=30, deadline=None)
EVERY_CHARACTER_AT_ONCE = settings(phases=[Phase.explicit], deadline=None)
"""Only the explicit example: running all commands takes seconds. Without this, hypothesis makes texts of its own."""
hostile = st.text(st.sampled_from(STORABLE) | st.sampled_from("ab \n\t\"'[]{}\\"), min_size=1, max_size=30)
UNTOUCHED = {"state", "runner", "origin", "source", "scope"}


def control_in(shown: str) -> str:
    return "".join(sorted(set(shown) & set(CONTROL)))


class TestText:
    """The functions that all printing uses."""

    def test_every_control_character_has_an_escape_and_nothing_else_does(self) -> None:
        escaped = {*CONTROL, *filter(_is_reserved, EVERY_CHARACTER)}
        others = "".join(char for char in EVERY_CHARACTER if char not in escaped)
        assert visible(others) == others
        for char in escaped:
            assert control_in(visible(char)) == ""
            assert visible(char).startswith("\\")

    def test_what_is_drawn_as_nothing_is_escaped(self) -> None:
        assert len(INVISIBLE) == 4_174 + 1
        for char in "\u3164\u115f\u1160\uffa0\u034f\u180b\u180f\u17b4\u17b5\ufe0f\U000e0100\u2800":
            assert visible_in_a_line(f"admin{char}") == f"admin{char.encode('unicode_escape').decode()}"

    def test_as_python_writes_it(self) -> None:
        assert visible("a\x1b[2J\tb\n\u202ec\U000e0041\ud800") == "a\\x1b[2J\tb\n\\u202ec\\U000e0041\\ud800"
        assert visible_in_a_line("a\tb\nc") == "a\\tb\\nc"

    @given(st.text(st.characters(codec="utf-8") | st.sampled_from(STORABLE), max_size=60))
    @example(STORABLE)
    @quick
    def test_a_json_document_keeps_its_value(self, value: str) -> None:
        document = json.dumps({value: [value]}, ensure_ascii=False, indent=2)
        shown = visible_json(document)
        assert control_in(shown) == ""
        assert json.loads(shown) == json.loads(document)

    @given(st.text(st.characters() | st.sampled_from(CONTROL), max_size=60))
    @quick
    def test_lines_stay_lines(self, value: str) -> None:
        assert not set("\n\t") & set(line(value) + visible_in_a_line(value))
        assert control_in(line(value) + "".join(lines(value))) == ""

    @given(st.text(st.sampled_from(CONTROL), max_size=20))
    @example(CONTROL)
    @quick
    def test_logs_of_processes(self, value: str) -> None:
        try:
            raise ValueError(value)
        except ValueError:
            record = logging.LogRecord("x", logging.INFO, "", 0, "job %s", (value,), sys.exc_info())
        for formatter in (PlainFormatter(with_extra=True), VisibleFormatter(), JsonFormatter()):
            shown = formatter.format(record)
            assert control_in(shown) == ""
            assert "Traceback" in shown


def _is_reserved(char: str) -> bool:
    """Whether it is unassigned and, if a terminal knows it, invisible: some Pythons do not know it yet."""
    return "\U00013430" <= char <= "\U0001343f"


class Cluster:
    """A small API server: each pod has printed the text, and everything else is refused with it."""

    def __init__(self) -> None:
        self.text = ""
        self.url = ""

    def answer(self, path: str) -> tuple[int, bytes]:
        if "/pods/" in path and "/log" in path:
            printed = re.sub("\n", "", self.text)
            return 200, "".join(f"2026-01-01T00:00:0{number}.0Z {printed}\n" for number in range(3)).encode()
        if "/pods/" in path:
            return 200, json.dumps({"status": {"phase": "Failed"}}).encode()
        status = {"kind": "Status", "message": self.text, "reason": self.text, "details": {"name": self.text}}
        return 403, json.dumps(status).encode()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    served = Cluster()
    with answering(served.answer) as served.url:
        yield served


@pytest.fixture(scope="module")
def prepared(shared_sqlite_ledger_url: str) -> Path:
    """A database with a failed, a succeeded, a running, a locked and a waiting job."""
    for ledger in open_ledger(shared_sqlite_ledger_url):
        for runner in ("kubernetes", "legacy"):
            ledger.insert(new_job(runner=runner))
            claim = claim_one(ledger, runner, ["report"], "pod-1", LEASE)
            assert claim is not None
            report = AttemptReport(1, 1, "JobError", "x", "pod-1", (ContainerOutput("job", "x"),))
            with ledger.engine.begin() as connection:
                reports.record(connection, claim.job, report)
            ledger.save(None, claim.token, {"x": "1"})
            ledger.fail(claim.token, Failure("JobError", "x", "ValueError", "x", for_good=True), decide=True)
        ledger.insert(new_job())
        claim = claim_one(ledger, "legacy", ["report"], "host:1", LEASE)
        assert claim is not None
        ledger.succeed(None, claim.token, {"rows": 5}, None, AttemptUsage(2**20, 5, 9))
        for kind in ({"queue_name": "q", "locks_queue": True}, {"queue_name": "q", "locks_queue": True}, {}):
            ledger.insert(new_job(**kind))
        claim_one(ledger, "legacy", ["report"], "host:1", LEASE)
        ledger.insert(new_job(runner="kubernetes"))
        batch = ledger.open_batch("x")
        ledger.insert(new_job(batch_id=batch.id))
        with ledger.engine.begin() as connection:
            insert_task(connection, "legacy", "x", "{}")
            schedule = Schedule("x", "report", Every(minutes=5))
            schedule_rows.put(connection, "legacy", schedule, "x")
            until = datetime.now(UTC) + timedelta(days=1)
            mute = NewMute(job_type="x", cause="x", fingerprint="x", until=until, reason="x")
            mute_rows.add_mute(connection, mute, "x")
        SqlLimits(ledger.engine).set(Scope(ScopeKind.QUEUE, "q"), lambda _: Bounds(1), by="x")
    return Path(shared_sqlite_ledger_url.removeprefix("sqlite:///"))


def spoil(ledger: SqlLedger, words: str) -> None:
    """Write the words to every text of every row."""
    values = {
        "words": words,
        "json": json.dumps({words: words}),
        "outputs": json.dumps([{"container": words, "text": words}]),
    }
    with ledger.engine.begin() as connection:
        for table in metadata.sorted_tables:
            names = [column.name for column in table.columns if isinstance(column.type, StorableText)]
            for name in set(names) - UNTOUCHED - {"unique_key"}:
                value = ":json" if name == "payload" else ":words"
                if name == "pod":
                    continue
                connection.execute(text(f'UPDATE "{table.name}" SET "{name}" = {value}'), values)
        connection.execute(text("UPDATE job_limit SET scope = 'queue:' || :words"), values)
        connection.execute(text("UPDATE job_request SET result = :json WHERE state = 'succeeded'"), values)
        connection.execute(text("UPDATE attempt_report SET outputs = :outputs"), values)
        connection.execute(text("UPDATE task_outbox SET token = uid"))  # a replica has claimed it


@contextmanager
def installed(prepared: Path, cluster: Cluster, words: str, *, terminal: bool) -> Iterator[None]:
    """An installation where everything says the words."""
    copy = prepared.with_name("copy.sqlite3")
    shutil.copyfile(prepared, copy)
    for ledger in open_ledger(f"sqlite:///{copy}"):
        spoil(ledger, words)
    cluster.text = words
    kubeconfig = write_kubeconfig(cluster.url, prepared.with_name("kubeconfig"))
    application = prepared.with_name("hostile_application.py")
    application.write_text(f"raise ValueError({words!r})\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(prepared.parent)
        patch.setattr(arguments, "on_a_terminal", lambda: terminal)
        patch.setenv("SPOKE_DATABASE_URL", f"sqlite:///{copy}")
        patch.setenv("SPOKE_NAMESPACE", "shop")
        patch.setenv("KUBECONFIG", kubeconfig)
        patch.setenv("SPOKE_APP", "hostile_application")
        yield


JOBS = ["1", "3", "5", "7"]
"""A failed job and one that waits, in the cluster; one that has succeeded, and one behind a lock."""
COMMANDS = [
    *(["ls"], ["ls", "--json"], ["check"], ["check", "--json"], ["worker"], ["tasks"], ["dispatch", "report"]),
    *(
        [*command, number]
        for number in JOBS
        for command in (["show", "--payload"], ["show", "--payload", "--json"], ["why"], ["why", "--json"], ["logs"])
    ),
    *(["watch", "1"], ["watch", "1", "--json"], ["logs", "-f", "1"], ["stats", "--by", "queue"]),
    *(["why"], ["why", "--json"]),
    *(["events"], ["events", "--json"], ["stats", "--json"], ["outbox", "ls"], ["outbox", "ls", "--json"]),
    *(["outbox", "show", "1", "--payload"], ["outbox", "replicas"], ["outbox", "retry", "1"]),
    *(["sizes"], ["sizes", "--json"]),
    *(["schedules", "ls"], ["schedules", "ls", "--json"], ["mutes", "ls"], ["mutes", "ls", "--json"]),
    *(["batches", "ls"], ["batches", "ls", "--json"], ["batches", "show", "1"], ["batches", "show", "1", "--json"]),
    *(["limits", "ls"], ["limits", "ls", "--json"], ["batches", "close", "1"], ["batches", "cancel", "1"]),
    *(["cancel", "--type", "*", "--dry-run"], ["retry", "--failed", "--dry-run"], ["prune", "--dry-run"]),
    *([action, *JOBS] for action in ("cancel", "retry")),
]
MISTYPED = [
    *(["ls", "--type"], ["ls", "--cause"], ["ls", "--state"], ["show", "--"], ["prune", "--older-than"], ["--"]),
    *(["limits", "set"], ["schedules", "pause"], ["schedules", "run-now"], ["batches", "show"]),
]


def printed_by(command: list[str]) -> str:
    result = run_command(command)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output


@pytest.mark.parametrize("terminal", [False, True], ids=["lines", "tables"])
@given(words=hostile)
@example(words=" ".join([*ATTACKS, STORABLE]))
@settings(EVERY_CHARACTER_AT_ONCE, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_command_prints_one(prepared: Path, cluster: Cluster, terminal: bool, words: str) -> None:
    with installed(prepared, cluster, words, terminal=terminal):
        wrong = [[*command, words] for command in MISTYPED] + [[f"--{words}"], ["ls", f"--{words}"]]
        for command in COMMANDS + wrong:
            assert control_in(printed_by(command)) == "", command


def test_the_escapes_are_there(prepared: Path, cluster: Cluster) -> None:
    with installed(prepared, cluster, "\x1b[2Jx", terminal=False):
        assert "\n".join(["\\x1b[2Jx"] * 3) in printed_by(["logs", "1"])
        assert "output\t\\x1b[2Jx" in printed_by(["show", "1"])
        (job, *_) = json.loads(printed_by(["ls", "--json"]))["jobs"]
        assert job["job_type"] == "\x1b[2Jx"


def test_a_pods_output_is_unchanged_if_that_is_asked_for(prepared: Path, cluster: Cluster) -> None:
    with installed(prepared, cluster, "\x1b[32mgreen\u200d", terminal=True):
        assert "\x1b[32mgreen\u200d\n" in printed_by(["logs", "--raw", "1"])


def test_a_table_prints_markup_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table = printing.new_table(["REPLICA"])
    table.add_row("[/x][link=https://example.com]a[/link]:skull:")
    printing.new_console().print(table)
    assert "[/x][link=https://example.com]a[/link]:skull:" in capsys.readouterr().out


def test_nor_does_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    error = ValueError("\x1b[2J")
    printing.print_traceback(ValueError, error, None)
    assert capsys.readouterr().err == "ValueError: \\x1b[2J\n"
