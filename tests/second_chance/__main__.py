"""Run pytest with these arguments, and what failed once more: ``python -m tests.second_chance [PYTEST ARGUMENTS]``.

There are up to three runs: of the selected tests but for those marked ``alone``, with as many processes as the
arguments say; of those marked ``alone``, in one process; and of what failed in both, in one process. That process is
pytest-xdist's, too, which names the test that ends it, and goes on with the others.

Exit codes are pytest's. The run also fails with 1 if more tests failed than SPOKE_TEST_FLAKY_BUDGET. What was flaky or
failed is written to build/flaky.json, or the file that SPOKE_TEST_FLAKY_REPORT names. With CI in the environment, the
first failures are printed whole. The records of the runs, and one summary of all of them in the form of pytest's, are
in a folder that no other call uses, unless SPOKE_TEST_RECORDS names one to keep.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from . import recorder
from .verdict import NO_TESTS, PASSED, TESTS_FAILED, Failure, Run, Verdict, exit_code, judge, may_run_again, merge

BUDGET = int(os.environ.get("SPOKE_TEST_FLAKY_BUDGET", "5"))
"""How many flaky tests a run may have. A quiet machine has none."""
REPORT = Path(os.environ.get("SPOKE_TEST_FLAKY_REPORT", "build/flaky.json"))
RECORDS = ("beside.json", "alone.json", "second.json", "summary")
CACHE = "cache"
"""The names of files, and of pytest's folder, below the folder of records."""
ONE_PROCESS = ("--numprocesses=1",)
ENDS_WITH_THIS = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()
"""What ends pytest if this process is killed: its tests would fail those of the next run."""


def main(arguments: list[str]) -> int:
    """Run the tests, the failed ones twice. Return the exit code."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.unlink(missing_ok=True)
    with _records() as folder:
        return _runs(arguments, folder.resolve())


@contextmanager
def _records() -> Iterator[Path]:
    """A folder without records of an earlier run, for those of this one, and for pytest's list of what failed."""
    if kept := os.environ.get("SPOKE_TEST_RECORDS"):
        folder = Path(kept)
        folder.mkdir(parents=True, exist_ok=True)
        for name in RECORDS:  # whoever names the folder may keep other files in it
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / CACHE, ignore_errors=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="second-chance-", dir=REPORT.parent) as made:
            yield Path(made)


def _runs(arguments: list[str], folder: Path) -> int:
    code, first = _first_runs(arguments, folder)
    if code != PASSED and not first.failures and not first.gaps:
        return code  # no test: pytest has said so
    second = None
    if code == TESTS_FAILED and may_run_again(first, BUDGET):
        print(f"\n{len(first.failures)} failed; they run once more, in one process", flush=True)
        only_failed = ["--last-failed", "--last-failed-no-failures=none"]
        again, second = _pytest(folder, "second", [*arguments, *ONE_PROCESS, *only_failed])
        code = exit_code(again) if again not in (PASSED, TESTS_FAILED) else code
    verdict = judge(first, second, BUDGET)
    REPORT.write_text(json.dumps(asdict(verdict), indent=2) + "\n")
    (folder / "summary").write_text(f"=== {verdict.summary} ===\n")
    _print(verdict)
    if verdict.reasons:
        return code or TESTS_FAILED
    return PASSED if code in (PASSED, TESTS_FAILED) else code


def _first_runs(arguments: list[str], folder: Path) -> tuple[int, Run]:
    """Run the tests beside each other, then those that need the machine for themselves."""
    code, beside = _pytest(folder, "beside", [*arguments, "--alone=without"])
    if code not in (PASSED, TESTS_FAILED, NO_TESTS):
        return exit_code(code), beside
    print("\nthe tests marked alone run now, in one process", flush=True)
    code_alone, alone = _pytest(folder, "alone", [*arguments, *ONE_PROCESS, "--alone=only"])
    return exit_code(code, code_alone), merge(beside, alone)


def _pytest(folder: Path, name: str, arguments: list[str]) -> tuple[int, Run]:
    record = folder / f"{name}.json"
    options = ["-p", "tests.second_chance.recorder", f"--record={record}", "-o", f"cache_dir={folder / CACHE}"]
    process = subprocess.Popen([*ENDS_WITH_THIS, sys.executable, "-m", "pytest", *arguments, *options])
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue  # pytest gets it from the terminal too, and ends
        if (run := recorder.read(record)) is None:
            return code, Run(gaps=(f"pytest ended with {code} and recorded nothing: see above",))
        return code, merge(run, Run(gaps=(f"pytest ended with {code} after its tests",))) if code < 0 else run


def _print(verdict: Verdict) -> None:
    """Print the tables; the last lines say whether the run passes."""
    if os.environ.get("CI"):
        for failure in (*verdict.flaky, *verdict.failed):
            print(f"\n--- first failure of {failure.test}: {failure.phase}, {_circumstances(failure)} ---")
            print(*filter(None, (failure.text, failure.captured)), sep="\n")
    for word, failures in (("FLAKY", verdict.flaky), ("FAILED", verdict.failed)):
        if failures:
            print(f"\n{word} {len(failures)} of {verdict.tests:,}")
        for failure in failures:
            print(f"  {failure.test}\n    {failure.seconds:.1f} s: {failure.first_error[:200]}")
    for reason in verdict.reasons:
        print(f"the run fails: {reason}")


def _circumstances(failure: Failure) -> str:
    process = f", in process {failure.process}" if failure.process else ""
    return f"after {failure.seconds:.1f} s{process}, load {failure.load:.1f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
