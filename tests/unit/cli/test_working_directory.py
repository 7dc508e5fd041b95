"""The console script finds the application in the working directory, with nothing set but SPOKE_APP."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import patient

SCRIPT = str(Path(sys.executable).parent / "spoke-jobs")
APPLICATION = """
from spoke_jobs import job

@job("report")
def report(ctx, payload):
    return {"made": True}
"""
POD = """
import importlib.util, sys
import spoke_jobs.execution.pod as pod
from spoke_jobs.cli import main
pod.run = lambda *_: print(importlib.util.find_spec("shop").origin) or 0
sys.argv = ["spoke-jobs", "run"]
main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APPLICATION)
    return tmp_path


def plain() -> dict[str, str]:
    """An environment with the settings of the project alone."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPOKE_", "PYTHON"))}
    return kept | {"SPOKE_APP": "shop", "SPOKE_DATABASE_URL": "sqlite:///shop.sqlite3"}


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, env=plain(), capture_output=True, text=True, timeout=patient(120))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_check_dispatch_and_the_worker_s_children_find_it(folder: Path) -> None:
    run(folder, SCRIPT, "migrate")
    assert "job   report" in run(folder, SCRIPT, "check")
    assert run(folder, SCRIPT, "dispatch", "report") == "1\treport\twaiting\n"
    run(folder, SCRIPT, "worker", "--drain", "--processes", "1")
    assert '"made": true' in run(folder, SCRIPT, "show", "1")


def test_a_pod_finds_it(folder: Path) -> None:
    assert run(folder, sys.executable, "-P", "-c", POD).strip() == str(folder / "shop.py")


def test_a_file_there_hides_no_module_that_the_command_line_imports(folder: Path) -> None:
    for name in ("typer", "sqlalchemy", "alembic"):
        (folder / f"{name}.py").write_text("raise RuntimeError('the wrong one')")
    run(folder, SCRIPT, "migrate")
    assert "job   report" in run(folder, SCRIPT, "check")
