"""The structure that CONTRIBUTING promises: walls, a name for each module, few fragments, no hidden test."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (ROOT / "runner/spoke_jobs", ROOT / "operator/spoke_jobs_operator")
MODULES = [
    path
    for package in PACKAGES
    for path in sorted(package.rglob("*.py"))
    if path.name != "__init__.py" and "versions" not in path.parts
]

FORBIDDEN = {
    "operator/spoke_jobs_operator/core/admission/admit.py": (
        *("spoke_jobs.cluster", "spoke_jobs.model", "spoke_jobs.payloads"),
        *("kopf", "aiohttp", "kubernetes"),
    ),
    "operator/spoke_jobs_operator/core/objects/api_objects.py": ("spoke_jobs_operator.core.limits.limits",),
    "operator/spoke_jobs_operator/shell/store/store.py": ("spoke_jobs_operator.shell.admission.pacing",),
    "operator/spoke_jobs_operator/shell/reconciling/controller.py": ("spoke_jobs.execution.signals", "spoke_jobs"),
    "runner/spoke_jobs/runners/sql_runner.py": ("spoke_jobs.tasks.server",),
    "runner/spoke_jobs/ledger/rows.py": ("spoke_jobs.registry",),
    "runner/spoke_jobs/execution/pod.py": ("kubernetes", "starlette"),
    "runner/spoke_jobs/explain/why.py": ("rich", "spoke_jobs.cluster.cluster_client"),
    "runner/spoke_jobs/web/job_views.py": ("jinja2", "starlette", "spoke_jobs.web.pages"),
    "runner/spoke_jobs/contract/retry.py": ("spoke_jobs.settings",),
    "runner/spoke_jobs/shared/backoff.py": ("spoke_jobs.contract.names", "spoke_jobs.errors"),
}
"""By file, imports that cross a wall."""


def test_lint_names_every_forbidden_import(tmp_path: Path) -> None:
    for folder in ("runner", "operator", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, imports in FORBIDDEN.items():
        with (tmp_path / file).open("a") as module:
            module.writelines(f"\nimport {name}\n" for name in imports)
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(str(tmp_path / name) for name in ("runner", "operator", "."))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    said = "".join(done.stdout.split())
    for file, imports in FORBIDDEN.items():
        importer = ".".join(Path(file).with_suffix("").parts[1:])
        for name in imports:
            assert f"{importer}->{name}" in said, done.stdout


def test_no_wall_has_a_hole() -> None:
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text()


def test_a_module_has_a_name_of_its_own() -> None:
    names = Counter(path.name for path in MODULES if path.name != "__main__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_few_modules_are_fragments() -> None:
    short = [str(path.relative_to(ROOT)) for path in MODULES if len(path.read_text().splitlines()) < 30]
    assert len(short) < 15, short


def test_the_top_level_holds_what_an_application_author_knows() -> None:
    modules = {path.stem for path in PACKAGES[0].glob("*.py")} - {"__init__", "__main__"}
    assert len(modules) <= 10, modules


def test_of_the_contracts_of_a_class_none_hides_a_test_of_another() -> None:
    """Of two tests with the same name only one would run."""
    classes = [
        (path, node)
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    contracts = {
        node.name: [item.name for item in node.body if getattr(item, "name", "").startswith("test_")]  # type: ignore[attr-defined]
        for path, node in classes
        if path.parent.name == "contract"
    }
    for path, node in classes:
        names = Counter(name for base in node.bases for name in contracts.get(ast.unparse(base), ()))
        assert [name for name, count in names.items() if count > 1] == [], f"{path.relative_to(ROOT)}: {node.name}"
