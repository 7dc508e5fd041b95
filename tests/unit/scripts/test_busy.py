"""`make test-busy` keeps the machine busy while the tests run, and no longer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def busy(tmp_path: Path, programs: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `scripts/test-busy` with stand-ins for the programs that it calls."""
    with start(tmp_path, programs) as process:
        _, said = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stderr=said)


def start(tmp_path: Path, programs: dict[str, str]) -> subprocess.Popen[str]:
    """Start it."""
    for name in ("lib.sh", "test-busy"):
        (tmp_path / "scripts").mkdir(exist_ok=True)
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
    for name, text in ({"bin/dpkg-query": "echo stress-ng installed"} | programs).items():
        program = tmp_path / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
    variables = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    return subprocess.Popen(
        [tmp_path / "scripts/test-busy"], env=os.environ | variables, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("code", [0, 1])
def test_the_load_ends_with_the_tests_whose_exit_code_it_keeps(tmp_path: Path, code: int) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    programs = {
        "bin/stress-ng": f"echo $$ $* >{pipe}; exec tail --pid={os.getpid()} --follow /dev/null",
        "scripts/test": f"cat {pipe} >{tmp_path}/load; kill -0 $(cut -d' ' -f1 {tmp_path}/load) && exit {code}",
    }
    done = busy(tmp_path, programs)
    assert done.returncode == code, done.stderr
    pid, _, options = (tmp_path / "load").read_text().strip().partition(" ")
    assert "--cpu 2 --io 1" in options
    assert "--timeout" in options
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_tests_that_pass_without_the_load_fail_the_run(tmp_path: Path) -> None:
    """As where stress-ng refuses its options, or gets no memory."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    programs = {
        "bin/stress-ng": f"echo $$ >{pipe}",
        "scripts/test": f"tail --pid=$(cat {pipe}) --follow /dev/null",
    }
    done = busy(tmp_path, programs)
    assert done.returncode == 1
    assert done.stderr.endswith("they passed on a machine that was not busy\n")
