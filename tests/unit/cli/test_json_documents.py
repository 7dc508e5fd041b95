"""With `--json`, every command prints one JSON document and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from tests.contract.ledger import new_job
from tests.unit.cli.conftest import Run, fail

from spoke_jobs.cli.command_line import build_program
from spoke_jobs.ledger.outbox.task_outbox import insert_task
from spoke_jobs.ledger.sql_ledger import SqlLedger

FULL = {
    "batches ls": (),
    "batches show": (1,),
    "check": (),
    "dispatch": ("plain",),
    "events": (),
    "limits ls": (),
    "ls": (),
    "mutes ls": (),
    "outbox ls": (),
    "outbox replicas": (),
    "outbox show": (1,),
    "schedules ls": (),
    "show": (1,),
    "sizes": (),
    "stats": (),
    "watch": (1,),
    "why": (),
}
"""By command, its arguments."""


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def test_each_such_command_is_known() -> None:
    whole = _commands(typer.main.get_command(build_program([])))
    assert {name for name, command in whole if any("--json" in one.opts for one in command.params)} == set(FULL)


@pytest.mark.parametrize("filled", [False, True])
def test_one_document(ledger: SqlLedger, run: Run, filled: bool) -> None:
    if filled:
        fail(ledger)
        ledger.insert(new_job())
        ledger.cancel(2, "ada")
        ledger.open_batch("import")
        with ledger.engine.begin() as connection:
            insert_task(connection, "kubernetes", "send", "{}")
        run("pause", "all", "--reason", "upgrade")
        run("mutes", "add", "--type", "report", "--until", "+1h", "--reason", "known")
    codes = {"watch": 1} if filled else {"batches show": 3, "outbox show": 3, "show": 3, "watch": 3}
    environment = {"SPOKE_APP": "tests.contract.app:registry"}
    for command in sorted(FULL, key=lambda name: name == "dispatch"):  # which makes a job
        code = codes.get(command, 0)
        printed = run(*command.split(), *FULL[command], "--json", code=code, env=environment).stdout
        if code == 3:
            assert printed == "", "there is none: the error is on standard error"
        else:
            assert isinstance(json.loads(printed), dict)
