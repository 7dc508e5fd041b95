"""What is documented is what there is."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest
import typer

from spoke_jobs.cli.command_line import app
from spoke_jobs.cli.commands import dispatch_command
from spoke_jobs.cli.commands.exits import EPILOG, MEANINGS, Exit
from spoke_jobs.cli.explaining.reasons import Code
from spoke_jobs.cli.reference import causes_page, cli_page, options_page, settings_page
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.wait_reasons import WAITS
from spoke_jobs.model import JobData
from spoke_jobs.registry import Registry
from spoke_jobs.settings import Settings


def test_dispatch_has_an_option_for_every_field_of_a_dispatch() -> None:
    given = inspect.getsource(dispatch_command.dispatch)
    for field in dataclasses.fields(JobData):
        assert f" {field.name}=" in given, field.name


@pytest.mark.parametrize("code", Exit)
def test_every_exit_code_is_in_the_help_and_the_reference(code: Exit) -> None:
    assert f"{code.value} {MEANINGS[code]}" in EPILOG
    assert f"| {code.value} | {MEANINGS[code]} |" in cli_page.page()


def test_every_command_and_every_code_of_why_has_its_place() -> None:
    page = cli_page.page()
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"\n## {name}\n" in page
    for code in Code:
        assert f"| `{code.value}` | " in page
        assert f"| `{code.value}` |  |" not in page, "it says what it means"


def test_every_cause_and_every_wait_says_what_to_do() -> None:
    rows = {row.split("`")[1]: row.split(" | ") for row in causes_page.page().splitlines() if row.startswith("| `")}
    assert rows.keys() == CAUSES.keys() | WAITS.keys()
    assert all(cell.strip("| ") for cells in rows.values() for cell in cells)


@pytest.mark.parametrize(
    ("cause", "word"),
    [
        ("JobError", "third"),
        ("Timeout", "no"),
        ("TemplateMissing", "start timeout"),
        *((cause, "no: it is waited for") for cause in ("ImageUnavailable", "PodRejected", "ContainerConfigError")),
        ("ContainerCannotRun", "third"),
        ("QueueHeld", "60 s"),
    ],
)
def test_a_cause_says_how_often_it_is_tried_again(cause: str, word: str) -> None:
    (row,) = [row for row in causes_page.page().splitlines() if row.startswith(f"| `{cause}`")]
    assert word in row.rsplit(" | ", 1)[1]


def test_every_setting_has_its_meaning() -> None:
    rows = {row.split("`")[1]: row for row in settings_page.page().splitlines() if row.startswith("| `")}
    for field in Settings.model_fields.values():
        assert not rows[str(field.validation_alias)].endswith("|  |")


def test_every_option_has_its_meaning_and_what_each_runner_does_with_it() -> None:
    rows = {
        row.split("`")[1]: [cell.strip() for cell in row.split(" | ")]
        for row in options_page.page().splitlines()
        if "`" in row
    }
    names = {field.name for field in dataclasses.fields(JobData)} | set(inspect.signature(Registry.job).parameters)
    for name in names - {"self", "name", "job_type", "payload"}:
        cells = [cell.strip("| ") for cell in rows[name]]
        assert cells[3], name
        assert set(cells[4:]) <= {"honoured", "refused", "ignored"}
        assert len(cells[4:]) == 5
    assert [cell.strip("| ") for cell in rows["timeout_seconds"][4:7]] == ["honoured", "refused", "refused"]
    assert [cell.strip("| ") for cell in rows["pod_template"][4:]] == [*["ignored"] * 4, "honoured"]


def test_starting_up_loads_nothing_that_only_one_command_needs() -> None:
    program = (
        "import sys, spoke_jobs.cli.command_line\n"
        "print({'rich', 'alembic', 'kubernetes', 'kopf', 'httpx', 'starlette', 'psycopg'} & sys.modules.keys())\n"
        "print([name for name in sys.modules if name.startswith(('spoke_jobs.worker', 'spoke_jobs.sync'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["set()", "[]"]
