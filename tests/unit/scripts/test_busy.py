"""`make test-busy` keeps the machine busy while the tests run, and no longer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("code", [0, 1])
def test_the_load_ends_with_the_tests_whose_exit_code_it_keeps(tmp_path: Path, code: int) -> None:
    for name in ("lib.sh", "test-busy"):
        (tmp_path / "scripts").mkdir(exist_ok=True)
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    programs = {
        "bin/dpkg-query": "echo stress-ng installed",
        "bin/stress-ng": f"echo $$ $* >{pipe}; exec tail --pid={os.getpid()} --follow /dev/null",
        "scripts/test": f"cat {pipe} >{tmp_path}/load; kill -0 $(cut -d' ' -f1 {tmp_path}/load) && exit {code}",
    }
    for name, text in programs.items():
        program = tmp_path / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
    variables = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        [tmp_path / "scripts/test-busy"], env=os.environ | variables, stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    pid, _, options = (tmp_path / "load").read_text().strip().partition(" ")
    assert "--cpu 2 --io 1" in options
    assert "--timeout" in options
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
