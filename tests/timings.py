"""Report where a test run's time went: the slowest tests, the rooms beside their budgets, the processes."""

from __future__ import annotations

import os
import resource
import time
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.budgets import BUDGETS, RECORD_VARIABLE, record, room_of

SLOWEST = 30
LONG_RUN_SECONDS = 60.0
"""Runs whose tests take less together print no report."""

FILE_VARIABLE = "SPOKE_TEST_TIMINGS"
"""Names a file to which each run adds a line for each test: seconds, seconds of CPU time, the test, split by tabs."""


@dataclass
class Spent:
    """Seconds passed, and seconds of CPU time of pytest and of the child processes that it waited for."""

    passed: float = 0.0
    cpu: float = 0.0

    def add(self, other: Spent) -> None:
        self.passed += other.passed
        self.cpu += other.cpu

    def line(self, what: str) -> str:
        return f"{self.passed:8.1f} {self.cpu:8.1f}  {what}"


class CpuTime:
    """Notes in each report the CPU time since the one before; under pytest-xdist in the process that runs the test."""

    def __init__(self) -> None:
        self._last = _cpu_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        report = yield
        now = _cpu_seconds()
        report.cpu_seconds, self._last = now - self._last, now
        return report


class Timings:
    """Sums set-up, call and teardown of each test; under pytest-xdist it is in the controller."""

    def __init__(self) -> None:
        self._tests: dict[str, Spent] = defaultdict(Spent)
        self._processes: dict[str, Spent] = defaultdict(Spent)
        self._ended: dict[str, float] = {}
        self._began, self._jiffies = time.monotonic(), _jiffies()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one phase of one test."""
        spent = Spent(report.duration, getattr(report, "cpu_seconds", 0.0))
        self._tests[report.nodeid].add(spent)
        if node := getattr(report, "node", None):
            self._processes[node.gateway.id].add(spent)
            if report.stop:  # the report of a crash, which pytest-xdist makes, has no time
                self._ended[node.gateway.id] = report.stop

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the report."""
        if file := os.environ.get(FILE_VARIABLE):
            with Path(file).open("a") as lines:
                lines.writelines(f"{spent.passed:.2f}\t{spent.cpu:.2f}\t{test}\n" for test, spent in _most(self._tests))
        total = sum(spent.passed for spent in self._tests.values())
        if total < LONG_RUN_SECONDS:
            return
        write = terminalreporter.write_line
        terminalreporter.section(f"{SLOWEST} slowest tests: seconds of set-up, call and teardown; of CPU time")
        for nodeid, spent in _most(self._tests)[:SLOWEST]:
            write(spent.line(nodeid))
        rooms: dict[str, Spent] = defaultdict(Spent)
        levels: dict[str, Spent] = defaultdict(Spent)
        for nodeid, spent in self._tests.items():
            rooms[room_of(nodeid)].add(spent)
            levels[nodeid.split("/")[1]].add(spent)
        terminalreporter.section("seconds of each level, and of each room with 1 % or more; of CPU time; its budget")
        for level, spent in _most(levels):
            budget = sum(seconds for room, seconds in BUDGETS.items() if room.split("/")[0] == level)
            write(spent.line(f"{level}  (budget: {budget:.0f})"))
        for room, spent in _most(rooms):
            if spent.passed >= total / 100:
                write(spent.line(f"{room}  (budget: {BUDGETS.get(room, 0):.0f})"))
        if (file := os.environ.get(RECORD_VARIABLE)) and len(self._processes) > 1:  # not what runs alone
            record({room: spent.passed for room, spent in rooms.items()}, Path(file))
        terminalreporter.section("use of the machine: seconds passed; of CPU time")
        busy, possible = (now - then for now, then in zip(_jiffies(), self._jiffies, strict=True))
        whole = Spent(time.monotonic() - self._began, sum(spent.cpu for spent in self._tests.values()))
        write(whole.line(f"the whole run; the machine's cores were busy for {busy / max(possible, 1):.0%} of the time"))
        for process, spent in sorted(self._processes.items()):
            if (ended := self._ended.get(process)) is None:
                write(spent.line(f"tests in process {process}, which ended before any of its tests did"))
                continue
            early = max(self._ended.values()) - ended
            write(spent.line(f"tests in process {process}, which ended {early:.1f} s before the last"))


def report_timings(config: pytest.Config) -> None:
    """Have this run end with the report."""
    config.pluginmanager.register(CpuTime())
    if not hasattr(config, "workerinput"):  # pytest-xdist's own processes have it
        config.pluginmanager.register(Timings())


def _most(spent: dict[str, Spent]) -> list[tuple[str, Spent]]:
    return sorted(spent.items(), key=lambda item: -item[1].passed)


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _jiffies() -> tuple[int, int]:
    """What the machine's cores have worked since it started, and what they could have worked."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, idle, iowait, interrupts, soft_interrupts = numbers[:7]
    busy = user + nice + system + interrupts + soft_interrupts
    return busy, busy + idle + iowait
