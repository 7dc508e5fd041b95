"""All runs as ``make test`` makes them: real pytest, with pytest-xdist's processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.leftovers import owner_of
from tests.waiting import eventually, patient

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-m", "tests.second_chance", "-p", "xdist", "-p", "pytest_timeout")
COMMAND += ("--numprocesses=2", "--dist=loadscope")
FLAKY = """
import os, pathlib, time, pytest

def first_time(name):
    marker = pathlib.Path(name)
    was_there = marker.exists()
    marker.touch()
    return not was_there
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a module's tests; gives what was printed, with the exit code."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others only take time here
    of_this_run = ("CI", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER_COUNT")
    for name in (*of_this_run, *(f"SPOKE_TEST_{name}" for name in ("FLAKY_REPORT", "FLAKY_BUDGET", "RECORDS"))):
        monkeypatch.delenv(name, raising=False)

    def run_module(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=FLAKY + source)
        return pytester.run(*COMMAND, *arguments, timeout=patient(120))

    return run_module


def report(pytester: pytest.Pytester) -> Any:
    return json.loads((pytester.path / "build/flaky.json").read_text())


def test_flaky_tests_are_listed_and_the_run_passes(run: Any, pytester: pytest.Pytester, monkeypatch: Any) -> None:
    """One fails at first, one ends its process, one hangs until its timeout, and one's teardown fails."""
    monkeypatch.setenv("CI", "true")
    result = run(
        """
def test_good(): pass

@pytest.mark.parametrize("word", ["a/b::c [d]"])
def test_fails_at_first(word): assert not first_time("fails")

def test_ends_its_process():
    if first_time("crash"): os._exit(3)

@pytest.mark.timeout(2)
def test_hangs():
    if first_time("hang"): time.sleep(60)

@pytest.fixture
def untidy():
    yield
    assert not first_time("untidy")

def test_teardown(untidy): pass
"""
    )
    assert result.ret == 0
    lines = result.outlines
    table = lines[lines.index("FLAKY 4 of 5") :]
    assert [line.split("::", 1)[1] for line in table if line.startswith("  test_it.py")] == [
        failure["test"].split("::", 1)[1] for failure in report(pytester)["flaky"]
    ]
    content = {failure["test"].partition("::")[2]: failure for failure in report(pytester)["flaky"]}
    assert {name: failure["phase"] for name, failure in content.items()} == {
        "test_fails_at_first[a/b::c [d]]": "call",
        "test_ends_its_process": "crash",
        "test_hangs": "call",
        "test_teardown": "teardown",
    }
    assert all(failure["load"] >= 0 and failure["text"] for failure in content.values())
    assert "Timeout" in content["test_hangs"]["text"]
    result.stdout.fnmatch_lines(["*first failure of test_it.py::test_fails_at_first*call, after*load*"])
    assert sum("passed" in line and line.startswith("=") for line in lines) == 2, "both runs have pytest's closing line"
    result.stdout.fnmatch_lines(["the tests marked alone run now, in one process"])


def test_a_process_that_hangs_is_ended_and_its_test_is_flaky(run: Any, pytester: pytest.Pytester) -> None:
    """While a thread waits with the GIL held, no signal is handled, so the timeout of the test does not end it.

    After a failure, pytest cancels what was to come later, and so does pytest-timeout.
    """
    pytester.makeconftest(
        """
from tests import frozen

frozen.GRACE_SECONDS = 1

def pytest_configure(config):
    config.pluginmanager.register(frozen.FrozenProcesses())
"""
    )
    result = run(
        """
import ctypes, signal

pytestmark = pytest.mark.timeout(1)

def freeze():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    ctypes.PyDLL(None).sleep(300)

def test_freezes():
    if first_time("call"): freeze()

@pytest.fixture
def freezes_later():
    yield
    if first_time("teardown"): freeze()

def test_fails_and_freezes(freezes_later): assert not first_time("failure")

def test_good(): pass
"""
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["FLAKY 2 of 3"])
    assert {failure["phase"] for failure in report(pytester)["flaky"]} <= {"crash", "call"}
    result.stderr.fnmatch_lines(["Timeout (0:00:02)!", "*in freeze"])


@pytest.mark.parametrize("hook", ["collection", "sessionfinish"])
def test_a_process_that_hangs_before_or_after_its_tests_is_ended(
    run: Any, pytester: pytest.Pytester, hook: str
) -> None:
    pytester.makeconftest(
        f"""
import ctypes
from tests import frozen

frozen.COLLECTION_SECONDS = frozen.END_SECONDS = 2

def pytest_configure(config):
    config.pluginmanager.register(frozen.FrozenProcesses())

def pytest_{hook}(session):
    if hasattr(session.config, "workerinput"): ctypes.PyDLL(None).sleep(300)
"""
    )
    result = run("def test_good(): pass", "--max-worker-restart=0")
    assert result.ret != 0
    result.stdout.re_match_lines([ENDED])
    result.stderr.fnmatch_lines(["Timeout (0:00:02)!", f"*in pytest_{hook}"])


def test_a_forked_child_that_lives_does_not_hide_the_end_of_its_process(run: Any, pytester: pytest.Pytester) -> None:
    """pytest-xdist learns of the end when its connection is closed, by every process that has it."""
    pytester.makeconftest(
        """
from tests import frozen

def pytest_configure(config):
    config.pluginmanager.register(frozen.FrozenProcesses())
"""
    )
    child = pytester.path / "child"
    try:
        result = run(
            """
def test_leaves_a_child():
    if not first_time("crash"): return
    if (child := os.fork()) == 0:
        time.sleep(300)
        os._exit(0)
    pathlib.Path("child").write_text(str(child))
    os._exit(3)
"""
        )
        assert owner_of(int(child.read_text())) is not None, "the run has not waited for the child"
    finally:
        if child.exists() and owner_of(int(child.read_text())):
            os.kill(int(child.read_text()), signal.SIGKILL)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["FLAKY 1 of 1"])


ENDS: dict[str, tuple[str, tuple[str, ...], int, str]] = {
    "one fails twice": (
        "def test_bad(): assert 0\ndef test_flaky(): assert not first_time('x')\ndef test_good(): pass",
        (),
        1,
        "the run fails: failed twice: test_it.py::test_bad",
    ),
    "a fixture of the stage fails": (
        """
@pytest.fixture(scope="session")
def postgres_url():
    if first_time("postgres"): pytest.fail("no PostgreSQL")

def test_a(postgres_url): pass
""",
        (),
        1,
        "the run fails: postgres_url failed: Failed: no PostgreSQL",
    ),
    "a fixture of a test's own fails": (
        """
@pytest.fixture
def cluster():
    if first_time("namespace"): pytest.fail("no namespace")

def test_a(cluster): pass
""",
        (),
        0,
        "FLAKY 1 of 1",
    ),
    "no module": ("import nothing_of_that_name", (), 1, "the run fails: the collection failed: *"),
    "no test": ("def test_good(): pass", ("-k", "nothing"), 5, "*"),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_run_ends(run: Any, case: str) -> None:
    source, arguments, code, said = ENDS[case]
    result = run(source, *arguments)
    assert result.ret == code
    result.stdout.fnmatch_lines([said])


ALONE = """
def processes():
    return int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))

def done(name, kind):
    with open("done", "a") as file:
        file.write(f"{kind} {name} {processes()}\\n")

@pytest.mark.alone
def test_alone(): done("alone", "alone")

@pytest.mark.alone
@pytest.mark.late
def test_alone_and_late(): done("late", "alone")

@pytest.mark.alone
def test_alone_and_flaky(): assert not first_time("alone")

def test_beside(): done("beside", "beside")

@pytest.mark.late
def test_beside_and_late(): done("late", "beside")

def test_beside_and_flaky(): assert not first_time("beside")
"""


def runs_of(pytester: pytest.Pytester) -> list[str]:
    return (pytester.path / "done").read_text().splitlines()


def test_those_marked_alone_run_after_all_others_in_one_process(run: Any, pytester: pytest.Pytester) -> None:
    """What fails in both runs has its second chance together, and counts together."""
    result = run(ALONE)
    assert result.ret == 0
    done = runs_of(pytester)
    assert sorted(done[:2]) == ["beside beside 2", "beside late 2"]
    assert sorted(done[2:]) == ["alone alone 1", "alone late 1"]
    result.stdout.fnmatch_lines(["2 failed; they run once more, in one process", "FLAKY 2 of 6"])
    assert {failure["test"] for failure in report(pytester)["flaky"]} == {
        "test_it.py::test_alone_and_flaky",
        "test_it.py::test_beside_and_flaky",
    }


@pytest.mark.parametrize(
    ("marks", "expected"), [("late", ["beside late 2", "alone late 1"]), ("alone and late", ["alone late 1"])]
)
def test_marks_among_the_arguments_select_as_ever(
    run: Any, pytester: pytest.Pytester, marks: str, expected: list[str]
) -> None:
    assert run(ALONE, "-m", marks).ret == 0
    assert runs_of(pytester) == expected


def test_one_that_ends_its_process_twice_fails_the_run_by_name(run: Any, pytester: pytest.Pytester) -> None:
    # xdist's own order, unlike that of `make test`, gives a test that ends its process out again, until it gives up.
    result = run("def test_flaky(): assert not first_time('x')\n@pytest.mark.alone\ndef test_bad(): os._exit(0)")
    assert result.ret == 1
    assert result.outlines[-1] == "the run fails: failed twice: test_it.py::test_bad"
    assert [failure["test"] for failure in report(pytester)["flaky"]] == ["test_it.py::test_flaky"]


def test_a_run_that_ends_before_all_its_tests_ran_fails(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed would pass in the second run, and nobody would know of the others."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "--exitfirst")
    bad = "\n".join(f"@pytest.mark.alone\ndef test_{n}(): assert not first_time('failed')" for n in range(9))
    result = run(bad)
    assert result.ret != 0
    result.stdout.re_match_lines([r"the run fails: \d of 9 tests did not run, such as test_it.py::test_\d"])


ENDED = r"the run fails: process gw\d ended while it ran no test: Not properly terminated"


@pytest.mark.parametrize("part", ["without", "only"])
def test_processes_that_end_while_they_collect_fail_the_run(run: Any, pytester: pytest.Pytester, part: str) -> None:
    """Nobody knows their tests then, and all tests of the other run pass."""
    pytester.makeconftest(
        f"""
import os

def pytest_collection(session):
    if hasattr(session.config, "workerinput") and session.config.getoption("--alone") == "{part}": os._exit(3)
"""
    )
    result = run("@pytest.mark.alone\ndef test_alone(): pass\ndef test_beside(): pass", "--max-worker-restart=1")
    assert result.ret == 1
    result.stdout.re_match_lines([ENDED, "the run fails: no process said which tests there are"])


def test_a_process_that_ends_after_its_last_test_fails_the_run(run: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
import os, pytest

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"): os._exit(3)
"""
    )
    result = run("def test_good(): pass", "--max-worker-restart=1")
    assert result.ret == 1
    result.stdout.re_match_lines([ENDED])


def test_pytest_is_killed(run: Any, pytester: pytest.Pytester) -> None:
    """What failed before is named all the same."""
    result = run(
        """
@pytest.mark.alone
def test_kills(): os.kill(os.getppid(), 9)

def test_bad(): assert 0
"""
    )
    assert result.ret == 128 + 9
    result.stdout.fnmatch_lines(["the run fails: pytest ended with -9 and recorded nothing: see above"])
    assert [failure["test"] for failure in report(pytester)["failed"]] == ["test_it.py::test_bad"]


HANGING = """
def test_hangs():
    pathlib.Path("pid").write_text(f"{os.getppid()}\\n")
    time.sleep(600)
"""


def test_pytest_ends_when_the_run_is_killed(run: Any, pytester: pytest.Pytester) -> None:
    """Or its tests would go on beside those of the next run."""
    pytester.makepyfile(test_it=FLAKY + HANGING)
    process = pytester.popen(COMMAND, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        file = pytester.path / "pid"
        pid = int(eventually(lambda: file.exists() and file.read_text().strip(), "the test runs"))
    finally:
        process.kill()
        process.wait()
    eventually(lambda: owner_of(pid) is None, "pytest has ended")


def test_records_are_kept_where_the_caller_says(run: Any, pytester: pytest.Pytester, monkeypatch: Any) -> None:
    """Those of an earlier run are not taken for this one's."""
    (pytester.path / "records").mkdir()
    for name in ("second.json", "thesis.json"):
        (pytester.path / "records" / name).touch()
    monkeypatch.setenv("SPOKE_TEST_RECORDS", "records")
    assert run("def test_good(): pass").ret == 0
    assert sorted(path.name for path in pytester.path.glob("records/*.json")) == [
        "alone.json",
        "beside.json",
        "thesis.json",
    ]
