"""A pytest plugin: record what passed and what failed in this run, in the file that the option ``--record`` names."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from .verdict import COLLECTION, ESSENTIAL_FIXTURES, NO_TESTS, Failure, Run, gap

CAPTURED_CHARACTERS = 20_000
"""How many of what a failed test printed and logged are recorded."""
_failed_fixture = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption("--record", metavar="FILE", help="write what passed and what failed to this file, as JSON")
    parser.addoption("--alone", choices=("only", "without"), help="run only the tests marked alone, or the others")


def pytest_configure(config: pytest.Config) -> None:
    """Record in the process that hears of all tests: pytest-xdist's controller."""
    if (file := config.getoption("--record")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(file)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select by the mark ``alone``, whatever else the arguments select."""
    if (part := config.getoption("--alone")) is None:
        return
    kinds: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        kinds[item.get_closest_marker("alone") is not None].append(item)
    config.hook.pytest_deselected(items=kinds[part != "only"])
    items[:] = kinds[part == "only"]


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Note the failure of a fixture that sets up the stage."""
    try:
        return (yield)
    except BaseException:
        if fixturedef.scope == "session" and fixturedef.argname in ESSENTIAL_FIXTURES:
            request.config.stash[_failed_fixture] = fixturedef.argname
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Bring the note to the process that records."""
    report = yield
    report.essential = item.config.stash.get(_failed_fixture, "") if report.failed else ""
    item.config.stash[_failed_fixture] = ""
    return report


class Recorder:
    """Collects the reports of all tests, and writes them at the end."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._selected: set[str] = set()
        self._tests: set[str] = set()
        self._passed: set[str] = set()
        self._skipped: set[str] = set()
        self._failures: dict[str, Failure] = {}
        self._collected = False
        self._ended: dict[str, str] = {}
        self._crashed: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the tests that are to run in this process."""
        self._collected = True
        self._selected |= {item.nodeid for item in session.items}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Note those that are to run in pytest-xdist's processes."""
        self._collected = True
        self._selected |= set(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Note a process of pytest-xdist that ended too early. If it ran a test, the report of that test follows."""
        if error is not None:
            self._ended[node.gateway.id] = str(error)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record one phase of one test. When a process crashes, pytest-xdist reports the phase ``???`` of its test."""
        self._tests.add(report.nodeid)
        if report.failed:
            phase = report.when if report.when in ("setup", "call", "teardown") else "crash"
            if phase == "crash" and (node := getattr(report, "node", None)):
                self._crashed.add(node.gateway.id)
            self._failed(report, phase, getattr(report, "essential", ""))
        elif report.skipped:
            self._skipped.add(report.nodeid)
        elif report.when == "call" and report.passed:
            self._passed.add(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a module that could not be collected."""
        if report.failed:
            self._failed(report, "collect", COLLECTION)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the record, and add to what ``--last-failed`` selects.

        pytest's own list lacks a test that crashed its process if it passed when pytest-xdist ran it again at once.
        """
        if cache := session.config.cache:
            cache.set("cache/lastfailed", cache.get("cache/lastfailed", {}) | dict.fromkeys(self._failures, True))
        passed = self._passed - self._failures.keys()
        failures, skipped = tuple(self._failures.values()), len(self._skipped - self._failures.keys())
        run = Run(len(self._tests), frozenset(passed), failures, self._gaps(exitstatus), skipped)
        self._file.write_text(json.dumps(asdict(run) | {"passed": sorted(passed)}))

    def _gaps(self, exitstatus: int) -> tuple[str, ...]:
        """Say what did not run, and which processes ended without a test to blame.

        Such a process may have ended while it collected. Then nobody knows its tests.
        """
        without_test = (name for name in self._ended if name not in self._crashed)
        ended = tuple(f"process {name} ended while it ran no test: {self._ended[name]}" for name in without_test)
        unheard = ("no process said which tests there are",) if exitstatus == NO_TESTS and not self._collected else ()
        return (*gap(frozenset(self._selected), frozenset(self._tests)), *ended, *unheard)

    def _failed(self, report: pytest.TestReport | pytest.CollectReport, phase: str, essential: str) -> None:
        node = getattr(report, "node", None)
        failure = Failure(
            test=report.nodeid,
            phase=phase,
            text=report.longreprtext,
            seconds=getattr(report, "duration", 0.0),
            load=os.getloadavg()[0],
            process=node.gateway.id if node else "",
            essential=essential,
            captured=_captured(report),
        )
        self._failures.setdefault(report.nodeid, failure)


def _captured(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the ends of what was captured. pytest-timeout prints the stacks of other threads there."""
    sections = [(title, content) for title, content in report.sections if title.startswith("Captured")]
    each = CAPTURED_CHARACTERS // max(len(sections), 1)
    return "\n".join(f"--- {title} ---\n{content[-each:]}" for title, content in sections)


def read(file: Path) -> Run | None:
    """Read a record; None if pytest ended before it wrote all of one: it was killed, or the disk was full."""
    try:
        content = json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    failures = tuple(Failure(**failure) for failure in content["failures"])
    gaps, skipped = tuple(content["gaps"]), content["skipped"]
    return Run(content["tests"], frozenset(content["passed"]), failures, gaps, skipped)
