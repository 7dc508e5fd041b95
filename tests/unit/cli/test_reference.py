"""What is documented is what there is."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys

import typer

from spoke_jobs.cli.command_line import build_program
from spoke_jobs.cli.commands import dispatch_command
from spoke_jobs.cli.reference import causes_page, cli_page, options_page, settings_page
from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.task_causes import TASK_CAUSES
from spoke_jobs.contract.wait_reasons import REASONS
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.model import JobData
from spoke_jobs.registry import Registry
from spoke_jobs.settings import Settings


def test_dispatch_has_an_option_for_every_field_of_a_dispatch() -> None:
    given = inspect.signature(dispatch_command.dispatch).parameters
    assert {field.name for field in dataclasses.fields(JobData)} <= given.keys()


def test_every_command_and_every_code_of_why_has_its_place() -> None:
    page = cli_page.page()
    for name in typer.main.get_command(build_program([])).commands:  # type: ignore[attr-defined]
        assert f"\n## {name}\n" in page
    for code in Code:
        assert f"| `{code.value}` | " in page
        assert f"| `{code.value}` |  |" not in page, "it says what it means"


def entries(page: str) -> dict[str, str]:
    """The text of each entry of a page's lists and tables, by the entry's name."""
    found = re.findall(r"^(?:- |\| )`([^`]+)`(.*(?:\n  .*)*)", page, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


OF_TASKS = "## Why a task did not succeed"


def test_every_cause_of_tasks_says_what_to_do() -> None:
    found = entries(causes_page.page().partition(OF_TASKS)[2])
    assert found.keys() == TASK_CAUSES.keys()
    for name, cause in TASK_CAUSES.items():
        for text in (f"class: {cause.cause_class}", cause.meaning, f"what to do: {cause.advice}", cause.knowable):
            assert text in found[name]
    assert "the third failure is final" in found["TaskError"]
    assert found["Full"].endswith("tried again by default: yes; no limit")
    assert "no: 10 replicas have died" in found["WorkerLost"]


def test_every_cause_and_every_wait_says_what_to_do() -> None:
    found = entries(causes_page.page().partition(OF_TASKS)[0])
    assert found.keys() == CAUSES.keys() | REASONS.keys()
    for name, cause in CAUSES.items():
        assert cause.meaning in found[name]
        assert f"what to do: {cause.advice}" in found[name]
        assert f"knowable when: {cause.knowable}" in found[name]
    for name, wait in REASONS.items():
        assert wait.meaning in found[name]
        assert (wait.advice or wait.group_advice) in found[name]


def test_every_setting_has_its_meaning() -> None:
    found = entries(settings_page.page())
    for field in Settings.model_fields.values():
        assert re.search(r"\): [\w`]", found[str(field.validation_alias)])


def test_every_option_has_its_meaning_and_what_each_runner_does_with_it() -> None:
    meanings, _, support = options_page.page().partition("## Runners")
    found = entries(meanings)
    rows = {
        row.split("`")[1]: [cell.strip("| ") for cell in row.split(" | ")][1:]
        for row in support.splitlines()
        if row.startswith("| `")
    }
    names = {field.name for field in dataclasses.fields(JobData)} | set(inspect.signature(Registry.job).parameters)
    for name in names - {"self", "name", "job_type", "payload", "schedule"}:  # docs/how-to/schedules.md
        assert re.search(r"\): [\w`]", found[name]), name
        assert set(rows[name]) <= {"honored", "refused", "ignored"}
        assert len(rows[name]) == 5
    assert rows["timeout_seconds"][:3] == ["honored", "refused", "refused"]
    assert rows["pod_template"] == [*["ignored"] * 4, "honored"]


def test_a_command_loads_nothing_that_only_others_need() -> None:
    program = (
        "import sys\n"
        "from spoke_jobs.cli.command_line import build_program\n"
        "build_program(['why'])\n"
        "only = {'rich', 'alembic', 'kubernetes', 'kopf', 'httpx', 'starlette', 'psycopg', 'sqlalchemy.orm'}\n"
        "print(only & sys.modules.keys())\n"
        "ours = ('worker', 'sync', 'contract.custom_resources.kinds', 'ledger.access', 'ledger.sql_ledger')\n"
        "print([name for name in sys.modules if name.startswith(tuple(f'spoke_jobs.{one}' for one in ours))])\n"
        "print([name for name in sys.modules if name.endswith('_command')])\n"
        "for name in ('ls', 'stats', 'sizes', 'logs', 'watch', 'events'):\n"
        "    build_program([name])\n"
        "print([name for name in sys.modules if name == 'spoke_jobs.ledger.sql_ledger'])\n"
        "build_program([])\n"
        "print(only & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    why = "['spoke_jobs.cli.commands.why_command']"
    assert done.stdout.splitlines() == ["set()", "[]", why, "[]", "set()"]
