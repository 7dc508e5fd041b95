"""What is downloaded to build, test and publish this project is named by a hash, so nobody can change what it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
LOCKS = sorted([*(ROOT / "requirements").glob("*.txt"), *(ROOT / "examples").rglob("requirements.txt")])


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_may_only_read_by_default(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v[\d.]+", action), action
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_what_may_write_runs_no_code_of_packages_and_leaves_no_token_in_a_clone(workflow: Path) -> None:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
            if "write" in job.get("permissions", {}).values():
                assert not re.search(r"(?m)^\s*(make|pip|uv|python|scripts/)", step.get("run", "")), step


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_requirement_has_a_hash_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    for entry in entries:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert "://" not in text


def test_only_what_has_no_wheels_is_built_while_it_is_locked() -> None:
    """To build an sdist runs its code. oban-py needs a package that has none else."""
    script = (ROOT / "scripts/lock").read_text()
    locked = script.partition("wheels=(--only-binary :all:)\n")[2].partition("wheels=()\n")
    assert '"${wheels[@]}"' in locked[0]
    assert re.findall(r"--output-file requirements/(\S+)", locked[2]) == ["bench-oban.txt"]


def test_the_published_base_image_has_its_digest() -> None:
    dockerfile = (ROOT / "image/Dockerfile").read_text()
    assert re.search(r"^FROM python:[\w.-]+@sha256:[0-9a-f]{64} AS published$", dockerfile, re.MULTILINE)
    assert "ARG BASE_IMAGE=published\n" in dockerfile
