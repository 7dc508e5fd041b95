"""examples/recipes/alembic: the application's migrations and the ledger's in one database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import inspect
from tests.integration.recipes.stage import MakeRecipe, Recipe, empty_database

OURS = {"job_request", "job_attempt", "queue_lock", "task_outbox", "spoke_jobs_version"}


@pytest.fixture
def stage(recipe: MakeRecipe, ledger_url: str, tmp_path: Path) -> Recipe:
    """A copy of the folder, since revisions are written into it, on a database without any table."""
    made = recipe("alembic", empty_database(ledger_url))
    shutil.copytree(made.folder, tmp_path / "copy")
    made.folder = tmp_path / "copy"
    made.environment["PYTHONPATH"] = f"{made.folder}:{made.environment['PYTHONPATH']}"
    return made


def ledger(stage: Recipe) -> None:
    stage.python("-m", "spoke_jobs", "migrate")


def application(stage: Recipe) -> None:
    stage.python("-m", "alembic", "upgrade", "head")


def proposed(stage: Recipe) -> list[str]:
    """What autogenerate writes into an upgrade."""
    before = set(stage.folder.glob("migrations/versions/*.py"))
    stage.python("-m", "alembic", "revision", "--autogenerate", "-m", "proposed")
    (made,) = set(stage.folder.glob("migrations/versions/*.py")) - before
    text = made.read_text()
    made.unlink()
    upgrade = text.partition("def upgrade() -> None:")[2].partition("def downgrade")[0]
    return [line.strip() for line in upgrade.splitlines() if line.strip() and not line.strip().startswith("#")]


@pytest.mark.parametrize("order", [(ledger, application), (application, ledger)], ids=["ours first", "theirs first"])
def test_autogenerate_proposes_nothing(stage: Recipe, order: tuple[object, ...]) -> None:
    for migrate in order:
        migrate(stage)  # type: ignore[operator]
    tables = set(inspect(stage.engine).get_table_names())
    assert tables == OURS | {"contact", "alembic_version"}
    assert proposed(stage) == ["pass"]
    assert "No new upgrade operations detected" in stage.python("-m", "alembic", "check").stdout


def test_it_proposes_what_the_application_changed_and_no_more(stage: Recipe) -> None:
    ledger(stage)
    application(stage)
    models = stage.folder / "models.py"
    models.write_text(models.read_text() + "    cell: Mapped[str | None]\n")
    lines = [line for line in proposed(stage) if "op." in line]
    assert [line for line in lines if "add_column" in line], lines
    assert not [line for line in lines if any(name in line for name in OURS)]


def test_it_is_the_filter_that_keeps_ours(stage: Recipe) -> None:
    ledger(stage)
    application(stage)
    env = stage.folder / "migrations" / "env.py"
    env.write_text(env.read_text().replace("include_object=include_object,", ""))
    lines = proposed(stage)
    assert {name for name in OURS if f"op.drop_table('{name}')" in lines} == OURS


def test_each_goes_back_without_the_other(stage: Recipe) -> None:
    ledger(stage)
    application(stage)
    stage.python("-m", "alembic", "downgrade", "base")
    assert set(inspect(stage.engine).get_table_names()) == OURS | {"alembic_version"}
    ledger(stage)
    assert stage.jobs() == []
