"""`scripts/stage`: a machine without room for the tests is named in the first lines and in the last one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GB = 1024
"""In the unit of the stand-ins for `df` and `free`."""
NOTES = "echo $(basename $0) $* >>{folder}/calls"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the real `scripts/stage`. The engine does not start; what else it calls notes its call."""
    folder = tmp_path / "checkout"
    (folder / "scripts").mkdir(parents=True)
    shutil.copytree(ROOT / "tests/cluster", folder / "tests/cluster")
    for name in ("lib.sh", "stage"):
        shutil.copy(ROOT / "scripts" / name, folder / "scripts")
    for name in ("scripts/engine", "scripts/postgres", "tests/cluster/sweep"):
        write(folder / name, NOTES.format(folder=folder))
    return folder


def write(program: Path, code: str) -> None:
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/bash\n{code}\n")
    program.chmod(0o755)


def stage(checkout: Path, disk: int, memory: int) -> subprocess.CompletedProcess[str]:
    """Run it on a machine with that much free disk and memory, in GB."""
    write(checkout / "bin/df", f"echo Avail; echo {disk * GB}")
    write(checkout / "bin/free", f"echo Mem: 99999 1 1 1 1 {memory * GB}")
    variables = {"XDG_CACHE_HOME": str(checkout.parent / "cache"), "PATH": f"{checkout}/bin:{os.environ['PATH']}"}
    return subprocess.run(
        [checkout / "scripts/stage"], env=os.environ | variables, capture_output=True, text=True, check=False
    )


def calls(checkout: Path) -> list[str]:
    file = checkout / "calls"
    return file.read_text().splitlines() if file.exists() else []


def test_with_room_it_starts_the_services_and_removes_leftovers(checkout: Path) -> None:
    done = stage(checkout, disk=100, memory=8)
    assert done.returncode == 0, done.stderr
    assert calls(checkout) == ["engine", "sweep", "postgres start-without-fsync", "postgres sweep"]


def test_too_little_disk_is_said_with_what_is_needed(checkout: Path) -> None:
    write(checkout / "scripts/engine", "exit 1")  # without one there is nothing to remove
    done = stage(checkout, disk=3, memory=8)
    cache = checkout.parent / "cache/spoke-jobs"
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert lines[0].startswith(f"free: 3 GB in {cache}, of which 18 are needed")
    assert lines[-1].startswith(f"stage: 18 GB of free disk are needed, and {cache} has 3 GB")
    assert calls(checkout) == []


@pytest.mark.parametrize(
    ("engine", "pruned"),
    [("runs, started by these scripts (process 7)", True), ("runs, not started by these scripts", False)],
)
def test_what_builds_left_is_removed_only_from_an_engine_of_these_scripts(
    checkout: Path, engine: str, pruned: bool
) -> None:
    write(checkout / "scripts/engine", f'[[ $* != status ]] || echo "Docker engine: {engine}"')
    with (checkout / "scripts/lib.sh").open("a") as file:
        file.write(f"docker() {{ echo docker $* >>{checkout}/calls; }}\n")
    assert stage(checkout, disk=3, memory=8).returncode == 1
    assert ("docker builder prune --force" in calls(checkout)) is pruned


def test_too_little_memory_is_said_with_what_is_needed(checkout: Path) -> None:
    done = stage(checkout, disk=100, memory=1)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "stage: the tests and their cluster need 4 GB of memory, and 1 GB are available; end other programs"
    )
    assert calls(checkout) == []
