"""examples/recipes/own_runner: a module with three functions is a runner."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.integration.recipes.stage import RECIPES, MakeRecipe
from tests.waiting import eventually

from spoke_jobs.model import JobState


def test_every_job_has_a_process_of_its_own(recipe: MakeRecipe, ledger_url: str, tmp_path: Path) -> None:
    stage = recipe("own_runner", ledger_url)
    noted = tmp_path / "noted"
    dispatcher = int(stage.python("app.py", str(noted), JOB_RUNNER="ours.process_runner").stdout)
    assert noted.read_text() == "noted"
    eventually(lambda: all(job.state.final for job in stage.jobs()))
    first, second = stage.jobs()
    assert {job.runner for job in (first, second)} == {"ours.process_runner"}
    assert (first.state, first.result["sum"], first.attempt) == (JobState.SUCCEEDED, 6, 1)
    assert (second.state, second.result["sum"], second.attempt) == (JobState.SUCCEEDED, 0, 2)
    assert len({dispatcher, first.result["process"], second.result["process"]}) == 3
    assert not Path(f"{noted}-never").exists()


def test_it_refuses_to_start_half_configured(recipe: MakeRecipe, sqlite_ledger_url: str) -> None:
    ended = recipe("own_runner", sqlite_ledger_url).python(
        "app.py", "x", check=False, JOB_RUNNER="ours.process_runner", SPOKE_APP=""
    )
    assert ended.returncode != 0
    assert "'ours.process_runner' says that it is not fully configured" in ended.stderr


def test_it_is_as_short_as_its_readme_says() -> None:
    source = (RECIPES / "own_runner" / "ours" / "process_runner.py").read_text()
    body = [node for node in ast.parse(source).body if not isinstance(node, (ast.Import, ast.ImportFrom, ast.Expr))]
    lines = [line for node in body for line in source.splitlines()[node.lineno - 1 : node.end_lineno] if line.strip()]
    assert len(lines) <= 30
