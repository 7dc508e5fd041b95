"""The coverage-guided fuzzer (`tests/fuzz`) over each reader: 10 minutes each, or SPOKE_TEST_FUZZ_SECONDS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.readers import READERS
from tests.waiting import patient

ROOT = Path(__file__).parents[3]
SECONDS = int(os.environ.get("SPOKE_TEST_FUZZ_SECONDS", "600"))


def fuzz(reader: str, folder: Path, *options: str, timeout: float) -> None:
    """Run the fuzzer; fail with its output if the reader raises an error."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", reader, f"-artifact_prefix={folder}/", *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}/runner:{ROOT}/operator"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=patient(timeout),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]


def test_all_readers_for_a_moment(tmp_path: Path) -> None:
    fuzz("all", tmp_path, "-runs=300", timeout=240)


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("reader", READERS)
def test_each_reader(reader: str, tmp_path: Path) -> None:
    fuzz(reader, tmp_path, f"-max_total_time={SECONDS}", timeout=SECONDS + 240)
