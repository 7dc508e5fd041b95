"""Run pytest with these arguments, and what failed once more: ``python -m tests.second_chance [PYTEST ARGUMENTS]``.

There are up to three runs: of the selected tests but for those marked ``alone``, with as many processes as the
arguments say; of those marked ``alone``, in one process; and of what failed in both, in one process.

Exit codes are pytest's. The run also fails with 1 if more tests failed than SPOKE_TEST_FLAKY_BUDGET. What was flaky or
failed is written to build/flaky.json, or the file that SPOKE_TEST_FLAKY_REPORT names. With CI in the environment, the
first failures are printed whole.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from . import recorder
from .verdict import NO_TESTS, PASSED, TESTS_FAILED, Failure, Run, Verdict, exit_code, judge, may_run_again, merge

BUDGET = int(os.environ.get("SPOKE_TEST_FLAKY_BUDGET", "20"))
"""How many flaky tests a run may have."""
FOLDER = Path("build/second-chance")
REPORT = Path(os.environ.get("SPOKE_TEST_FLAKY_REPORT", "build/flaky.json"))
ONE_PROCESS = ("--numprocesses=0",)


def main(arguments: list[str]) -> int:
    """Run the tests, the failed ones twice. Return the exit code."""
    shutil.rmtree(FOLDER, ignore_errors=True)  # with pytest's list of what failed in earlier runs
    FOLDER.mkdir(parents=True)
    REPORT.unlink(missing_ok=True)
    code, first = _first_runs(arguments)
    if first is None or (code != PASSED and not first.failures):
        return code or TESTS_FAILED  # interrupted, wrong arguments, or no test: pytest has said so
    second = None
    if code == TESTS_FAILED and may_run_again(first, BUDGET):
        print(f"\n{len(first.failures)} failed; they run once more, in one process", flush=True)
        only_failed = ["--last-failed", "--last-failed-no-failures=none"]
        again, second = _pytest("second", [*arguments, *ONE_PROCESS, *only_failed])
        code = again if again not in (PASSED, TESTS_FAILED) else code
    verdict = judge(first, second, BUDGET)
    REPORT.write_text(json.dumps(asdict(verdict), indent=2) + "\n")
    _print(verdict)
    if verdict.reasons:
        return code or TESTS_FAILED
    return PASSED if code in (PASSED, TESTS_FAILED) else code


def _first_runs(arguments: list[str]) -> tuple[int, Run | None]:
    """Run the tests beside each other, then those that need the machine for themselves."""
    code, beside = _pytest("beside", [*arguments, "--alone=without"])
    if beside is None or code not in (PASSED, TESTS_FAILED, NO_TESTS):
        return code, beside
    print("\nthe tests marked alone run now, in one process", flush=True)
    code_alone, alone = _pytest("alone", [*arguments, *ONE_PROCESS, "--alone=only"])
    return exit_code(code, code_alone), None if alone is None else merge(beside, alone)


def _pytest(name: str, arguments: list[str]) -> tuple[int, Run | None]:
    record = FOLDER / f"{name}.json"
    options = ["-p", "tests.second_chance.recorder", f"--record={record}", "-o", f"cache_dir={FOLDER.resolve()}/cache"]
    process = subprocess.Popen([sys.executable, "-m", "pytest", *arguments, *options])
    while True:
        try:
            return process.wait(), recorder.read(record)
        except KeyboardInterrupt:
            continue  # pytest gets it from the terminal too, and ends


def _print(verdict: Verdict) -> None:
    """Print the tables; the last lines say whether the run passes."""
    if os.environ.get("CI"):
        for failure in (*verdict.flaky, *verdict.failed):
            print(
                f"\n--- first failure of {failure.test}: {failure.phase}, {_circumstances(failure)} ---\n{failure.text}"
            )
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
