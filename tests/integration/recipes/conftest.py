"""A recipe to run, and a database of either kind to run it on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.recipes.stage import MakeRecipe, Recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Iterator[MakeRecipe]:
    """Makes a recipe's stage from its name and a database's URL."""
    made: list[Recipe] = []

    def make(name: str, url: str, **options: str) -> Recipe:
        made.append(Recipe(name, url, tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """A fresh database with the ledger's tables, of either kind."""
    url: str = request.getfixturevalue(f"{request.param}_ledger_url")
    return url
