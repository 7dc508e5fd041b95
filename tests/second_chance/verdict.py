"""Decide what a run and the second run of its failed tests say together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ESSENTIAL_FIXTURES = frozenset(
    {"cluster", "cluster_env", "kubeconfig", "postgres_url", "ledger_roles", "_migrated_template", "_ledger_databases"}
)
"""Session fixtures that set up the cluster and PostgreSQL. If one fails, a second run proves nothing."""
COLLECTION = "the collection"
PASSED, TESTS_FAILED, NO_TESTS = 0, 1, 5
"""pytest's exit codes."""


@dataclass(frozen=True)
class Failure:
    """The first failure of a test in one run."""

    test: str
    """The test's node id; the module's for a failed collection."""
    phase: str
    """``setup``, ``call``, ``teardown``, ``crash`` of the test process, or ``collect``."""
    text: str
    """What pytest prints of it, with the traceback."""
    seconds: float
    """How long the phase took."""
    load: float
    """The machine's load average of the last minute when the failure was reported."""
    process: str = ""
    """pytest-xdist's name of the test process; empty without it."""
    essential: str = ""
    """What of the stage failed: a name of ``ESSENTIAL_FIXTURES``, or ``COLLECTION``; otherwise empty."""
    captured: str = ""
    """The end of what was printed and logged, with the stacks of other threads after a timeout."""

    @property
    def first_error(self) -> str:
        """The error in one line."""
        lines = [line.rstrip() for line in self.text.splitlines() if line.strip()]
        errors = [line[2:].strip() for line in lines if line.startswith("E ")]
        return errors[0] if errors else lines[-1].strip() if lines else "no text"


@dataclass(frozen=True)
class Run:
    """What one run of pytest recorded."""

    tests: int = 0
    """How many tests ran, failed ones included."""
    passed: frozenset[str] = frozenset()
    failures: tuple[Failure, ...] = ()
    gaps: tuple[str, ...] = ()
    """Why this run says nothing about some of its tests; empty if each of them ran."""
    skipped: int = 0
    """How many tests were skipped, or failed as expected."""


@dataclass(frozen=True)
class Verdict:
    """What both runs say."""

    tests: int
    flaky: tuple[Failure, ...] = ()
    """First failures of the tests that passed in the second run."""
    failed: tuple[Failure, ...] = ()
    """First failures of the tests that did not."""
    reasons: tuple[str, ...] = ()
    """Why the run fails; empty if it passes."""
    skipped: int = 0

    @property
    def summary(self) -> str:
        """The counts as pytest words them. A flaky test has passed."""
        failed = len(self.failed)
        passed = self.tests - failed - self.skipped
        counts = {"failed": failed, "passed": passed, "skipped": self.skipped, "flaky": len(self.flaky)}
        return ", ".join(f"{count} {word}" for word, count in counts.items() if count or word == "passed")


def merge(*runs: Run) -> Run:
    """Join runs of different tests to one."""
    return Run(
        sum(run.tests for run in runs),
        frozenset[str]().union(*(run.passed for run in runs)),
        tuple(failure for run in runs for failure in run.failures),
        tuple(gap for run in runs for gap in run.gaps),
        sum(run.skipped for run in runs),
    )


def gap(selected: frozenset[str], ran: frozenset[str]) -> tuple[str, ...]:
    """Say which of the selected tests did not run, if any: ``-x`` ends a run early, and so does Control-C."""
    absent = sorted(selected - ran)
    return (f"{len(absent)} of {len(selected)} tests did not run, such as {absent[0]}",) if absent else ()


def exit_code(*codes: int) -> int:
    """Join the exit codes of runs of different tests: it is no failure that a run has no tests, unless none has any.

    A run that a signal ended has a negative code. It fails the whole with that of a shell, 128 and the signal's number.
    """
    if ended := [128 - code for code in codes if code < 0]:
        return max(ended)
    return max((code for code in codes if code != NO_TESTS), default=NO_TESTS)


def may_run_again(first: Run, budget: int) -> bool:
    """Whether a second run could make this run pass."""
    return bool(first.failures) and not _final(first, budget)


def judge(first: Run, second: Run | None, budget: int) -> Verdict:
    """Say which tests are flaky and whether the run passes.

    :param second: the run of what failed; None if there was none.
    :param budget: how many flaky tests a run may have.
    """
    if reasons := _final(first, budget):
        return Verdict(first.tests, failed=first.failures, reasons=tuple(reasons), skipped=first.skipped)
    again = second or Run()
    failed_again = {failure.test for failure in again.failures}
    passed = again.passed - failed_again
    flaky = tuple(failure for failure in first.failures if failure.test in passed)
    failed = tuple(failure for failure in first.failures if failure.test not in passed)
    twice = [failure.test for failure in failed if failure.test in failed_again]
    absent = [failure.test for failure in failed if failure.test not in failed_again]
    reasons = [f"failed twice: {test}" for test in twice]
    reasons += [f"failed, and did not pass in the second run: {test}" for test in absent]
    reasons += [f"failed in the second run only: {test}" for test in sorted(failed_again - _tests(first.failures))]
    reasons += [f"in the second run {gap}" for gap in again.gaps]
    return Verdict(first.tests, flaky, failed, tuple(reasons), first.skipped)


def _final(first: Run, budget: int) -> list[str]:
    """Reasons to fail that no second run changes."""
    reasons = [f"{failure.essential} failed: {failure.first_error}" for failure in first.failures if failure.essential]
    reasons += first.gaps
    if len(first.failures) > budget:
        reasons.append(f"{len(first.failures)} tests failed; a second run is for at most {budget}")
    return reasons


def _tests(failures: Iterable[Failure]) -> set[str]:
    return {failure.test for failure in failures}
