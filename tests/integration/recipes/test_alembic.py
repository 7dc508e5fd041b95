"""examples/recipes/alembic: the application's migrations and the ledger's in one database."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import inspect
from tests.integration.recipes.stage import MakeRecipe, Recipe, empty_database

from spoke_jobs.ledger.migrations import migrate
from spoke_jobs.ledger.tables import metadata

OURS = {*metadata.tables, "spoke_jobs_version"}
UPGRADE = ("upgrade", "head")
MIGRATE = ("spoke-jobs", "migrate")
COMMANDS = """
import json, sys
from alembic.config import main
from spoke_jobs import cli
for arguments in json.loads(sys.argv[1]):
    if arguments[0] == "spoke-jobs":
        sys.argv = arguments
        try:
            cli.main()
        except SystemExit as ended:
            assert not ended.code
    else:
        main(argv=arguments)
"""


@pytest.fixture
def stage(recipe: MakeRecipe, ledger_url: str, tmp_path: Path) -> Recipe:
    """A copy of the folder, since revisions are written into it, on a database without any table."""
    made = recipe("alembic", empty_database(ledger_url))
    shutil.copytree(made.folder, tmp_path / "copy")
    made.folder = tmp_path / "copy"
    made.environment["PYTHONPATH"] = f"{made.folder}:{made.environment['PYTHONPATH']}"
    return made


def alembic(stage: Recipe, *commands: tuple[str, ...]) -> str:
    """Run alembic's command line with each of the arguments, or `MIGRATE`, in one process; what it prints."""
    return stage.python("-c", COMMANDS, json.dumps(commands)).stdout


def proposed(stage: Recipe, *commands: tuple[str, ...]) -> tuple[list[str], str]:
    """What autogenerate writes into an upgrade, after these commands; what all of them print."""
    before = set(stage.folder.glob("migrations/versions/*.py"))
    said = alembic(stage, *commands, ("revision", "--autogenerate", "-m", "proposed"))
    (made,) = set(stage.folder.glob("migrations/versions/*.py")) - before
    text = made.read_text()
    made.unlink()
    upgrade = text.partition("def upgrade() -> None:")[2].partition("def downgrade")[0]
    return [line.strip() for line in upgrade.splitlines() if line.strip() and not line.strip().startswith("#")], said


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "theirs first"])
def test_autogenerate_proposes_nothing(stage: Recipe, ours_first: bool) -> None:
    lines, said = proposed(stage, *((MIGRATE, UPGRADE) if ours_first else (UPGRADE, MIGRATE)), ("check",))
    assert lines == ["pass"]
    assert "No new upgrade operations detected" in said
    assert set(inspect(stage.engine).get_table_names()) == OURS | {"contact", "alembic_version"}


def test_it_proposes_what_the_application_changed_and_no_more(stage: Recipe) -> None:
    migrate(stage.engine)
    models = stage.folder / "models.py"
    models.write_text(models.read_text() + "    cell: Mapped[str | None]\n")
    lines = [line for line in proposed(stage, UPGRADE)[0] if "op." in line]
    assert [line for line in lines if "add_column" in line], lines
    assert not [line for line in lines if any(name in line for name in OURS)]


def test_it_is_the_filter_that_keeps_ours(stage: Recipe) -> None:
    migrate(stage.engine)
    env = stage.folder / "migrations" / "env.py"
    env.write_text(env.read_text().replace("include_object=include_object,", ""))
    lines, _ = proposed(stage, UPGRADE)
    assert {name for name in OURS if f"op.drop_table('{name}')" in lines} == OURS


def test_each_goes_back_without_the_other(stage: Recipe) -> None:
    migrate(stage.engine)
    alembic(stage, UPGRADE, ("downgrade", "base"))
    assert set(inspect(stage.engine).get_table_names()) == OURS | {"alembic_version"}
    migrate(stage.engine)
    assert stage.jobs() == []
