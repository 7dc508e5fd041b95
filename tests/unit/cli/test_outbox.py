"""`spoke-jobs outbox` on an SQLite ledger: what it does, what it prints for programs, and its exit codes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, event
from tests.contract.ledger import LEASE
from tests.unit.cli.conftest import Run, document

from spoke_jobs.cli.commands import arguments
from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.ledger.outbox.task_outbox import Outbox, TaskFailure, insert_task
from spoke_jobs.ledger.sql_ledger import SqlLedger


@pytest.fixture
def engine(ledger: SqlLedger) -> Engine:
    return ledger.engine


@pytest.fixture
def run(run: Run) -> Run:
    return partial(run, "outbox")


def put(engine: Engine, name: str, *, failed: bool = False) -> None:
    with engine.begin() as connection:
        insert_task(connection, "kubernetes", name, '{"to": "+15550100"}')
    if failed:
        outbox = Outbox(engine, "kubernetes")
        (task,) = outbox.claim([name], "replica-1", LEASE, 1)
        assert outbox.fail(task, TaskFailure("TaskError", "app.Refused"))


def test_it_lists_and_counts(engine: Engine, run: Run) -> None:
    put(engine, "send", failed=True)
    put(engine, "send")
    assert [line.split("\t")[:5] for line in run("ls").stdout.splitlines()] == [
        ["2", "send", "due", "1", "-"],
        ["1", "send", "failed", "1", "TaskError"],
    ]
    assert run("ls", "--failed").stdout.count("\n") == 1
    found = document(run("ls", "--json", "--name", "s*", "--state", "due"))
    assert found["counts"] == {"due": 1, "later": 0, "claimed": 0, "failed": 1}
    assert [(task["id"], task["payload"]) for task in found["tasks"]] == [(2, None)]


def test_a_payload_is_shown_only_if_it_is_asked_for(engine: Engine, run: Run) -> None:
    put(engine, "send", failed=True)
    plain = run("show", 1).stdout
    assert "cause\tTaskError\n" in plain
    assert "error\tapp.Refused\n" in plain
    assert f"meaning\t{TaskCause.TASK_ERROR.meaning}\n" in plain
    assert f"advice\t{TaskCause.TASK_ERROR.advise(1)}\n" in plain
    assert "`spoke-jobs outbox retry 1`" in plain
    assert "+15550100" not in plain
    assert "+15550100" in run("show", 1, "--payload").stdout
    assert document(run("show", 1, "--json", "--payload"))["payload"] == {"to": "+15550100"}
    assert "there is no task 9 in the outbox" in run("show", 9, code=3).stderr


def test_payloads_of_many_tasks_are_not_read(engine: Engine, run: Run) -> None:
    put(engine, "send", failed=True)
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        run("ls", "--json")
        run("retry", "--failed", "--yes")
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert any("task_outbox.name" in statement for statement in statements)
    assert not any("task_outbox.payload" in statement for statement in statements)


def test_replicas_are_listed_with_their_claims(engine: Engine, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert document(run("replicas", "--json")) == {"replicas": []}
    for _ in range(5):
        put(engine, "send")
    put(engine, "send", failed=True)  # no claim of it is left
    outbox = Outbox(engine, "kubernetes")
    outbox.claim(["send"], "tasks-b", LEASE, 2)
    outbox.claim(["send"], "tasks-a", LEASE, 1)
    outbox.claim(["send"], "tasks-c", -60.0, 1)  # it died
    found = document(run("replicas", "--json"))["replicas"]
    assert [(one["replica"], one["claimed"], one["lapsed"]) for one in found] == [
        ("tasks-a", 1, 0),
        ("tasks-b", 2, 0),
        ("tasks-c", 0, 1),
    ]
    cells = [line.split("\t") for line in run("replicas").stdout.splitlines()]
    assert [one[:3] for one in cells] == [["tasks-a", "1", "0"], ["tasks-b", "2", "0"], ["tasks-c", "0", "1"]]
    assert cells[0][3].startswith("in ")
    assert cells[2][3].endswith(" ago")
    monkeypatch.setattr(arguments, "on_a_terminal", lambda: True)
    assert [one.split()[:2] for one in run("replicas").stdout.splitlines()][:2] == [
        ["REPLICA", "CLAIMED"],
        ["tasks-a", "1"],
    ]


def test_failed_tasks_are_due_again(engine: Engine, run: Run) -> None:
    for name in ("send", "mail.welcome", "send"):
        put(engine, name, failed=True)
    put(engine, "send")
    assert run("retry", 1).stdout == "1\tdue\n"
    assert "task 4 is due: only a failed task can be retried" in run("retry", 4, code=1).stderr
    assert "there is no task 9" in run("retry", 9, code=3).stderr
    assert run("retry", "--failed", "--dry-run").stdout.splitlines() == [
        "1 failed task of the name mail.welcome",
        "1 failed task of the name send",
        "would retry 2 tasks",
    ]
    assert "add --yes" in run("retry", "--failed", code=2).stderr
    assert run("retry", "--failed", "--name", "mail.*", "--yes").stdout == "2\tdue\n"
    assert [task["id"] for task in document(run("ls", "--failed", "--json"))["tasks"]] == [3]


@pytest.mark.parametrize("arguments", [(), ("1", "--failed"), ("1", "--name", "send"), ("1", "--dry-run")])
def test_what_says_nothing_or_two_things(engine: Engine, run: Run, arguments: tuple[str, ...]) -> None:
    put(engine, "send", failed=True)
    run("retry", *arguments, code=2)
    assert run("ls", "--failed").stdout.count("\n") == 1
