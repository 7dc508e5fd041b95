"""Heavy runs take turns on a machine: `with_turn` of scripts/lib.sh, with real processes."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.leftovers import owner_of
from tests.waiting import eventually, patient

ROOT = Path(__file__).parents[3]
CHOOSING = ("UNIT", "FAST", "ROOM", "LONG", "ARGS")
"""Variables that choose tests, with which this test may itself be run."""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """The lock's file, below the cache of a user of these tests alone."""
    file = tmp_path / "spoke-jobs/heavy.lock"
    file.parent.mkdir()
    return file


def start(lock: Path, commands: str, **variables: str) -> subprocess.Popen[str]:
    """Start a shell that has the functions of scripts/lib.sh."""
    plain = {name: value for name, value in os.environ.items() if name not in CHOOSING}
    return subprocess.Popen(
        ["bash", "-c", f"source {ROOT}/scripts/lib.sh\nREMIND_SECONDS=0.1\n{commands}"],
        env=plain | variables | {"XDG_CACHE_HOME": str(lock.parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str], stream: str) -> str:
    return getattr(process, stream).readline().rstrip("\n")  # type: ignore[no-any-return]


@contextmanager
def held(lock: Path, minutes: int) -> Iterator[None]:
    """Hold the lock for `make bench`, which began some minutes ago."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"make bench\t/some/folder\t1\t{int(time.time()) - 60 * minutes - 30}\n")
        file.flush()
        yield


def test_the_second_one_says_for_whom_it_waits_and_goes_on_after_it(lock: Path) -> None:
    folder = lock.parent
    first = start(lock, f"cd {folder}; with_turn 'make test' read")
    while not (lock.exists() and lock.read_text()):
        assert first.poll() is None
    second = start(lock, "with_turn .ci/run echo done")
    assert [line(second, "stderr") for _ in range(3)] == [f"waiting for make test in {folder}, 0 min so far"] * 3
    first.communicate("\n")
    assert second.communicate()[0] == "done\n"
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_holder_that_is_killed_holds_it_no_longer_though_its_children_run(lock: Path, tmp_path: Path) -> None:
    daemon = f"detached {tmp_path}/log tail --pid={os.getpid()} --follow /dev/null"
    first = start(lock, f"work() {{ {daemon}; echo works; bash -c read; }}\nwith_turn 'make test' work")
    assert line(first, "stdout") == "works"
    first.kill()
    first.wait()
    second = start(lock, "with_turn .ci/run echo done")
    assert second.communicate(timeout=patient(60)) == ("done\n", "")
    first.communicate("\n")  # its child ends


def test_what_the_holder_calls_goes_on_at_once(lock: Path) -> None:
    inner = f"bash -c 'source {ROOT}/scripts/lib.sh; with_turn \"make test\" echo inner'"
    process = start(lock, f"with_turn .ci/run {inner}; with_turn .ci/run echo again")
    assert process.communicate() == ("inner\nagain\n", "")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose tests, PostgreSQL and cluster are stand-ins: each prints its name."""
    folder = tmp_path / "checkout"
    (folder / "scripts").mkdir(parents=True)
    for name in ("lib.sh", "test"):
        shutil.copy(ROOT / "scripts" / name, folder / "scripts")
    for name in ("scripts/postgres", "scripts/test-cluster", ".venv/bin/python"):
        program = folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/bash\necho {program.name} >&2\n")
        program.chmod(0o755)
    return folder


@pytest.mark.parametrize("variables", [{"UNIT": "1"}, {"FAST": "1"}, {"ARGS": "tests/unit/test_api.py"}])
def test_tests_without_the_cluster_and_those_with_arguments_do_not_wait(
    lock: Path, checkout: Path, variables: dict[str, str]
) -> None:
    with held(lock, minutes=1):
        process = start(lock, f"exec {checkout}/scripts/test", **variables)
        _, said = process.communicate()
    assert process.returncode == 0
    assert said.splitlines()[-1] == "python"
    assert "waiting" not in said


def test_what_runs_in_turn_ends_when_its_script_is_killed(lock: Path) -> None:
    """The lock is free then, and it would go on beside the next run."""
    command = f"bash -c 'echo $$; exec tail --pid={os.getpid()} --follow /dev/null'"
    with start(lock, f"exec {ROOT}/scripts/in-turn 'make bench' {command}") as process:
        pid = int(line(process, "stdout"))
        process.kill()
        eventually(lambda: owner_of(pid) is None, "the command has ended")  # and not because its output is closed


@pytest.mark.parametrize("code", [0, 3])
def test_in_turn_keeps_the_exit_code_and_the_input(lock: Path, code: int) -> None:
    command = f"bash -c 'cat; echo \"$@\"; exit {code}' -- 'two words'"
    process = start(lock, f"exec {ROOT}/scripts/in-turn 'make bench' {command}")
    assert process.communicate("typed\n") == ("typed\ntwo words\n", "")
    assert process.returncode == code


def test_all_tests_wait(lock: Path, checkout: Path) -> None:
    with held(lock, minutes=1):
        process = start(lock, f"exec {checkout}/scripts/test")
        assert line(process, "stderr") == "waiting for make bench in /some/folder, 1 min so far"
    assert process.communicate()[1].splitlines() == ["postgres", "test-cluster", "python"]
