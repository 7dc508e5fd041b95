"""A plugin for pytest, which collects the tests once. Then a process is forked for each rule, which breaks it.

It spends no time on the smallest example, on a second one, or on further tests of a table of which one has failed.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import partial
from itertools import zip_longest
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from tests.breaks import notes
from tests.breaks.forks import Task, forked
from tests.breaks.notes import note, short_name
from tests.breaks.probes import with_probes
from tests.breaks.rules import Break
from tests.breaks.swapping import Functions

ENOUGH = 4
"""After so many functions have failed, no further test runs."""
PATIENCE = (30.0, 10.0)
"""A test that takes longer than this, and so many times as long as without an edit, fails: it may never end."""


class Breaker:
    """Runs the tests without an edit, then with each.

    :param rooms: returns the beginnings of the names of the tests that may notice an edit.
    :param report: called for each rule with the tests that have noticed its edit, and the seconds that this took.
    """

    def __init__(
        self,
        wanted: list[Break],
        root: Path,
        folder: Path,
        processes: int,
        rooms: Callable[[Break], tuple[str, ...]],
        report: Callable[[Break, list[str], float], None],
    ) -> None:
        self._wanted = wanted
        self._root = root
        self._folder = folder
        self._processes = processes
        self._rooms = rooms
        self._report = report
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()
        self._patience: Mapping[str, float] | None = None
        self._ends_at = float("inf")
        self.whole = notes.Run()
        """The run without an edit."""
        settings.register_profile(
            "breaks",
            phases=[Phase.explicit, Phase.generate],
            report_multiple_bugs=False,
            deadline=None,  # a busy machine notices no edit
            suppress_health_check=[HealthCheck.too_slow],
        )
        settings.load_profile("breaks")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run everything; pytest itself runs nothing."""
        functions = Functions({self._root / item.file for item in self._wanted})
        self.whole = self.without_edits(session, functions)
        usable = {test: took for test, took in self.whole.seconds.items() if test not in self.whole.failed}
        items = {item.nodeid: item for item in session.items}
        begun: dict[str, float] = {}

        def tasks() -> Iterator[Task]:
            for number, rule in enumerate(self._wanted):
                near = self.whole.reached.get(number, set())
                inside = {test: took for test, took in usable.items() if test.startswith(self._rooms(rule))}
                begun[rule.rule] = time.monotonic()
                yield Task(rule.rule, partial(self._break, rule, functions, items, list(turns(rule, inside, near))))

        rules = {rule.rule: rule for rule in self._wanted}
        folder = self._folder / "with"
        folder.mkdir()
        for task, run in forked(tasks(), self._processes, folder):
            self._report(rules[task.name], run.noticed[:ENOUGH], time.monotonic() - begun[task.name])
        return True

    def without_edits(self, session: pytest.Session, functions: Functions) -> notes.Run:
        """Run all tests without an edit, with a probe for each: by file, since the tests of a file share fixtures."""
        by_file: defaultdict[str, list[pytest.Item]] = defaultdict(list)
        for item in session.items:
            by_file[file_of(item.nodeid)].append(item)
        probes: defaultdict[str, dict[int, Break]] = defaultdict(dict)
        for number, rule in enumerate(self._wanted):
            probes[rule.file][number] = rule

        def with_all_probes(items: list[pytest.Item]) -> None:
            for file, edits in probes.items():
                functions.swap(self._root / file, partial(with_probes, edits=edits))
            self._run(items)

        folder, whole = self._folder / "without", notes.Run()
        folder.mkdir()
        tasks = [Task(file, partial(with_all_probes, items)) for file, items in by_file.items()]
        for _, run in forked(tasks, self._processes, folder):
            whole.add(run)
        return whole

    def _break(
        self, rule: Break, functions: Functions, items: Mapping[str, pytest.Item], turns: list[dict[str, float]]
    ) -> None:
        """Break a rule, and run tests until some fail. The process ends afterwards."""
        if not functions.swap(self._root / rule.file, lambda source: source.replace(rule.before, rule.after)):
            raise ValueError("no function is loaded that contains the edit")
        self._patience = {test: took for tests in turns for test, took in tests.items()}
        threading.Thread(target=self._watch, daemon=True).start()
        for tests in turns:
            self._run([items[test] for test in tests])
            if self._failed:
                return

    def _run(self, items: list[pytest.Item]) -> None:
        for item, following in zip_longest(items, items[1:]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if len(self._failed) >= ENOUGH:
                return

    def _watch(self) -> None:
        """End the process if a test comes to no end. The notes then name the test."""
        while time.monotonic() < self._ends_at:
            time.sleep(0.5)
        os._exit(1)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a test begins."""
        note(**{"is": "begun", "test": nodeid})
        if self._patience is not None:
            least, times = PATIENCE
            self._ends_at = time.monotonic() + max(least, times * self._patience.get(nodeid, 0.0))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave out a test of a table of which one has failed: one is enough to show that the edit is noticed.

        This concerns only the forked processes of `make breaks`, which run with broken code; `make test` skips nothing.
        A skip is pytest's way to leave a test out after its predecessor was told that it follows: without the item, the
        fixtures of that predecessor would not be torn down in order.
        """
        if short_name(item.nodeid) in self._failed:
            pytest.skip("another test of the table has failed")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a part of a test has ended."""
        test = report.nodeid
        self._seconds[test] = self._seconds.get(test, 0.0) + report.duration
        if report.failed:
            note(**{"is": "failed", "test": test})
            if self._patience is not None:
                self._failed.add(short_name(test))
        if report.when == "teardown":
            note(**{"is": "ended", "test": test, "seconds": round(self._seconds[test], 3)})


def turns(item: Break, seconds: Mapping[str, float], near: Set[str]) -> Iterator[dict[str, float]]:
    """Yield the tests that run one after another, with their seconds: near ones of the module, near ones, all others.

    :param near: the tests that come by the edit.
    """
    name = f"test_{Path(item.file).stem}"
    own = {test for test in near if Path(file_of(test)).stem == name}
    for tests in (own, near - own, seconds.keys() - near):
        yield _quickest_first(seconds, tests)


def _quickest_first(seconds: Mapping[str, float], tests: Iterable[str]) -> dict[str, float]:
    return dict(sorted(((test, seconds[test]) for test in tests if test in seconds), key=lambda pair: pair[1]))


def file_of(test: str) -> str:
    """Return the file of a test."""
    return test.partition("::")[0]
