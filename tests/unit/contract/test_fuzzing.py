"""The coverage-guided fuzzer (`tests/fuzz`) over each reader. They share half an hour, or SPOKE_TEST_FUZZ_SECONDS."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType

import pytest
from tests import readers
from tests.waiting import patient

ROOT = Path(__file__).parents[3]
SECONDS = int(os.environ.get("SPOKE_TEST_FUZZ_SECONDS", "1800"))
CHANGED_WEIGHT = 4
"""How many times the share of another reader one has whose module a commit of the last week changed."""


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


def modules_of(reader: Callable[..., object]) -> set[str]:
    """The modules whose functions and classes a reader calls, also through helpers in `tests.readers`."""
    names, closure = _names(reader.__code__), [cell.cell_contents for cell in reader.__closure__ or ()]
    called = [value for name in names if (value := getattr(readers, name, None)) is not None] + closure
    own = [
        value for value in called if getattr(value, "__module__", "") == readers.__name__ and hasattr(value, "__code__")
    ]
    modules = {str(getattr(value, "__module__", None) or getattr(value, "__name__", "")) for value in called}
    return modules.union(*map(modules_of, own)) - {readers.__name__}


def _names(code: CodeType) -> set[str]:
    return set(code.co_names).union(*(_names(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


@functools.cache
def shares() -> Mapping[str, int]:
    """The seconds of each reader."""
    log = ["git", "log", "--since=7.days", "--format=", "--name-only", "--", "runner", "operator"]
    done = subprocess.run(log, cwd=ROOT, capture_output=True, text=True, check=False)  # nothing changed without git
    changed = {path.partition("/")[2].removesuffix(".py").replace("/", ".") for path in done.stdout.split()}
    weights = {
        name: 1 if changed.isdisjoint(modules_of(reader)) else CHANGED_WEIGHT
        for name, reader in readers.READERS.items()
    }
    return {name: max(1, SECONDS * weight // sum(weights.values())) for name, weight in weights.items()}


def test_all_readers_for_a_moment(tmp_path: Path) -> None:
    fuzz("all", tmp_path, "-runs=300", timeout=240)


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("reader", readers.READERS)
def test_each_reader(reader: str, tmp_path: Path) -> None:
    fuzz(reader, tmp_path, f"-max_total_time={shares()[reader]}", timeout=shares()[reader] + 240)
