"""SPOKE_SCHEMA, where that needs no database (two applications: tests/integration/worker/test_two_applications.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spoke_jobs
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.ledger.engine import check_schema, create_engine
from spoke_jobs.ledger.tables import VERSION_TABLE, metadata
from spoke_jobs.settings import load_settings

PACKAGE = Path(spoke_jobs.__file__).parent
TABLES = "|".join([*metadata.tables, VERSION_TABLE])
UNQUALIFIED = re.compile(rf"\b(FROM|UPDATE|INTO|JOIN|TABLE|ON) ({TABLES})\b")


def test_no_statement_names_a_table_without_its_schema() -> None:
    """Migrations set the search path instead."""
    found = [
        f"{path.relative_to(PACKAGE)}: {match.group()}"
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "versions"
        for match in UNQUALIFIED.finditer(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize("name", ["Billing", "1st", "a-b", 'x"; DROP TABLE y', "x" * 49])
def test_a_name_that_needs_quotes_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SPOKE_SCHEMA", name)
    with pytest.raises(ConfigurationError, match="SPOKE_SCHEMA"):
        load_settings()


def test_a_schema_that_is_set_too_late_is_refused(monkeypatch: pytest.MonkeyPatch, sqlite_ledger_url: str) -> None:
    """Otherwise the process would use the default schema's tables: another application's."""
    monkeypatch.setenv("SPOKE_SCHEMA", "billing")
    engine = create_engine(sqlite_ledger_url)
    with pytest.raises(ConfigurationError, match="SPOKE_SCHEMA=billing was set after the process had imported"):
        check_schema(engine)
    engine.dispose()


def test_sqlite_has_no_schemas(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spoke_jobs", "migrate"],
        env=os.environ | {"SPOKE_SCHEMA": "billing", "SPOKE_DATABASE_URL": f"sqlite:///{tmp_path}/jobs.sqlite3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "SPOKE_SCHEMA=billing needs PostgreSQL" in done.stderr
    assert not list(tmp_path.iterdir())
