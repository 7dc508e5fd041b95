"""The names that pages suggest: how long they are kept, for whom, and of how many."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from spoke_jobs.ledger.reading.dashboard_queries import RecentNames
from spoke_jobs.model import JobFilter
from spoke_jobs.web import suggested_names
from spoke_jobs.web.suggested_names import KEPT_SECONDS, SuggestedNames
from spoke_jobs.web.viewer import Viewer

ALL = Viewer(name="ada", organizations=None)


def of(*organizations: int) -> Viewer:
    return Viewer(name="eve", organizations=frozenset(organizations))


class Ledger:
    """Counts the reads. Each finds another name."""

    def __init__(self) -> None:
        self.reads: list[JobFilter] = []
        self.now = 1_000.0
        self.suggested = SuggestedNames(self.read, lambda: self.now)

    def read(self, which: JobFilter) -> RecentNames:
        self.reads.append(which)
        return RecentNames((f"type-{len(self.reads)}",), ())


def test_names_are_kept_for_a_minute() -> None:
    ledger = Ledger()
    assert ledger.suggested.of(ALL).types == ("type-1",)
    ledger.now += KEPT_SECONDS - 1
    assert ledger.suggested.of(replace(ALL, name="bob")).types == ("type-1",)
    ledger.now += 1
    assert ledger.suggested.of(ALL).types == ("type-2",)
    assert ledger.reads == [JobFilter(), JobFilter()]


def test_nobody_is_told_the_names_of_other_organizations() -> None:
    ledger = Ledger()
    viewers = (ALL, of(), of(1), of(2), of(1, 2))
    found = [ledger.suggested.of(viewer) for viewer in viewers]
    assert len(set(found)) == len(viewers)
    assert [which.organizations for which in ledger.reads] == [viewer.organizations for viewer in viewers]
    assert [ledger.suggested.of(viewer) for viewer in viewers] == found


def test_those_of_few_sets_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggested_names, "KEPT_SETS", 2)
    ledger = Ledger()
    for number in (1, 2, 3, 2, 3):
        ledger.suggested.of(of(number))
    assert len(ledger.reads) == 3
    ledger.suggested.of(of(1))
    assert len(ledger.reads) == 4, "those of the set that was read first were not kept"


def test_a_read_holds_up_no_other_and_an_error_is_not_kept() -> None:
    ledger, going, held = Ledger(), threading.Event(), threading.Event()

    def read(which: JobFilter) -> RecentNames:
        if which.organizations is None and not going.is_set():
            going.set()
            assert held.wait(10)
            raise RuntimeError
        return ledger.read(which)

    suggested = SuggestedNames(read, lambda: ledger.now)
    errors: list[BaseException] = []

    def slow() -> None:
        try:
            suggested.of(ALL)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=slow)
    thread.start()
    assert going.wait(10)
    assert suggested.of(of(1)).types == ("type-1",)
    held.set()
    thread.join(10)
    assert errors
    assert suggested.of(ALL).types == ("type-2",)
