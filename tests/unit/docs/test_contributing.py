"""Every path exists to which CONTRIBUTING.md, or the docstring of a folder's `__init__.py`, sends a reader."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PARTS = (ROOT / "runner/spoke_jobs", ROOT / "operator/spoke_jobs_operator")
BASES = (ROOT, *PARTS, ROOT / "tests")


def paths(text: str) -> set[str]:
    return {name for name in re.findall(r"`([\w./*-]+)`", text) if "/" in name or name.endswith(".py")}


def exists(name: str, *bases: Path) -> bool:
    return any(list(base.glob(name.rstrip("/"))) for base in bases)


def test_every_path_of_the_table_exists() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    _, _, rest = page.partition("## To change this, go there")
    section, _, _ = rest.partition("\n## ")
    named = paths(section)
    assert len(named) > 60
    assert not [name for name in named if not exists(name, *BASES)]


def test_every_path_of_a_folders_docstring_exists() -> None:
    inits = [file for part in PARTS for file in part.rglob("__init__.py")]
    named = {(file, name) for file in inits for name in paths(ast.get_docstring(ast.parse(file.read_text())) or "")}
    assert len(named) > 100
    missing = [f"{file}: {name}" for file, name in named if not exists(name, file.parent, *BASES)]
    assert not missing
