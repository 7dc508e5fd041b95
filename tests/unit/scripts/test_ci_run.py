"""`.ci/run`: its phases, its last lines, its own cluster. What it calls are stand-ins, which note their calls."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.leftovers import owner_of
from tests.waiting import eventually

ROOT = Path(__file__).parents[3]
PROGRAMS = (
    "scripts/stage",
    "scripts/images",
    "scripts/test-cluster",
    "tests/cluster/build",
    "tests/cluster/sweep",
    "tests/cluster/down",
    "bin/make",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the real `.ci/run`. A stand-in runs the code in the file of its name and `.does`, if any."""
    folder = tmp_path / "checkout"
    for name in (".ci/run", "scripts/lib.sh"):
        (folder / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, folder / name)
    for name in PROGRAMS:
        program = folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(
            f'#!/bin/bash\necho "{program.name} $* $SPOKE_TEST_CLUSTER" >>calls\n'
            "source scripts/lib.sh\n[[ ! -e $0.does ]] || source $0.does\n"
        )
        program.chmod(0o755)
    return folder


def run(checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", ".ci/run"], cwd=checkout, env=environment(checkout), capture_output=True, text=True, check=False
    )


def environment(checkout: Path) -> dict[str, str]:
    """The environment of a run with a user's cache of its own."""
    return os.environ | {
        "XDG_CACHE_HOME": str(checkout.parent / "cache"),
        "PATH": f"{checkout}/bin:{os.environ['PATH']}",
    }


def calls(checkout: Path) -> list[str]:
    return [line.split()[0] for line in (checkout / "calls").read_text().splitlines()]


def phases(printed: str) -> list[str]:
    table = printed.partition("phases of .ci/run:\n")[2].splitlines()
    return [line.partition(" s  ")[2] for line in table if " s  " in line]


ALL = ["disk, memory, leftovers", "Python packages", "lint", "programs and images", "cluster", "tests", "second run"]


def test_a_run_ends_with_its_phases_and_without_its_cluster(checkout: Path) -> None:
    done = run(checkout)
    assert done.returncode == 0, done.stderr
    assert phases(done.stdout) == [*ALL, "other Python", "all"]
    assert done.stdout.splitlines()[-1].endswith(" s  all")
    assert calls(checkout)[-1] == "down"


@pytest.mark.parametrize("fails", [False, True], ids=["success", "failure"])
def test_the_next_run_waits_until_the_cluster_is_deleted(checkout: Path, fails: bool) -> None:
    """It needs the memory and the disk of that cluster."""
    lock = environment(checkout)["XDG_CACHE_HOME"] + "/spoke-jobs/heavy.lock"
    (checkout / "tests/cluster/down.does").write_text(f"! flock --nonblock {lock} true || echo free >free")
    (checkout / "bin/make.does").write_text("[[ $* != test ]] || exit 2" if fails else "")
    done = run(checkout)
    assert done.returncode == (2 if fails else 0), done.stderr
    assert calls(checkout)[-1] == "down"
    assert not (checkout / "free").exists()


def test_all_use_one_cluster_that_is_named_after_the_folder(checkout: Path) -> None:
    other = shutil.copytree(checkout, checkout.with_name("other"))
    names = []
    for folder in (checkout, other):
        run(folder)
        (name,) = {line.split()[-1] for line in (folder / "calls").read_text().splitlines()}
        assert re.fullmatch("spoke-ci-[0-9a-f]{8}", name)
        names.append(name)
    assert names[0] != names[1]


def test_the_first_reason_of_a_script_is_repeated_in_the_last_line(checkout: Path) -> None:
    (checkout / "scripts/stage.does").write_text("(fail 'the disk is full') || fail 'no stage'")
    done = run(checkout)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "stage: the disk is full"
    last = ".ci/run failed in its phase 'disk, memory, leftovers': stage: the disk is full"
    assert done.stdout.splitlines()[-1] == last
    assert "down" not in calls(checkout)


def test_the_tests_of_a_run_that_is_killed_end(checkout: Path) -> None:
    """Otherwise they would go on beside those of the next run, on a cluster of the same name."""
    does = f"[[ $* != test ]] || {{ echo $$ >pid; exec tail --pid={os.getpid()} --follow /dev/null; }}"
    (checkout / "bin/make.does").write_text(does)
    process = subprocess.Popen(["bash", ".ci/run"], cwd=checkout, env=environment(checkout), stderr=subprocess.DEVNULL)
    try:
        file = checkout / "pid"
        pid = int(eventually(lambda: file.exists() and file.read_text().strip(), "the tests run"))
    finally:
        process.kill()
        process.wait()
    eventually(lambda: owner_of(pid) is None, "the tests have ended")


WRITES_SUMMARY = (
    "case $* in test) counts='8000 passed';; test-pythons*) counts='3000 passed';; *) exit 0;; esac\n"
    'mkdir -p $SPOKE_TEST_RECORDS; echo "=== $counts ===" >$SPOKE_TEST_RECORDS/summary\n'
)


@pytest.mark.parametrize(("fails", "phase"), [("test", "tests"), ("test-pythons", "other Python")])
def test_the_counts_of_the_phase_that_fails_are_behind_its_reason(checkout: Path, fails: str, phase: str) -> None:
    (checkout / "bin/make.does").write_text(f"{WRITES_SUMMARY}[[ $1 != {fails} ]] || exit 1")
    done = run(checkout)
    *_, reason, summary = done.stdout.splitlines()
    assert done.returncode == 1
    assert reason == f".ci/run failed in its phase {phase!r}: see the output of that phase above"
    assert summary == f"=== {8000 if fails == 'test' else 3000} passed ==="
