"""The watch's thread, against an API server that does as it is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.waiting import eventually, patient

from spoke_jobs.shared.api_errors import api_error
from spoke_jobs.sync.sync_model import SpokeJobView
from spoke_jobs.sync.watch import Inbox, Watcher

Script = list[list[tuple[str, dict[str, Any]] | Exception]]


def body(name: str, version: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": "object", "resourceVersion": version}}


class FakeApi:
    """Each watch plays the script's next list, then ends; after the last it stays silent until stopped."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.began: list[str] = []

    def watch(self, resource_version: str, _seconds: int) -> Iterator[tuple[str, dict[str, Any]]]:
        self.began.append(resource_version)
        if not self.script:
            time.sleep(0.02)
            return
        for item in self.script.pop(0):
            if isinstance(item, Exception):
                raise item
            yield item


class Box(Inbox):
    """An inbox that keeps what was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[str, str, bool]] = []
        self.gaps = 0

    def drain(self) -> None:
        news, gap = self.take()
        self.taken += [(seen.name, seen.resource_version, deleted) for seen, deleted in news]
        self.gaps += gap


@pytest.fixture
def started() -> Iterator[Callable[[Script], tuple[FakeApi, Box, Watcher]]]:
    made: list[Watcher] = []

    def start(script: Script) -> tuple[FakeApi, Box, Watcher]:
        api, box = FakeApi(script), Box()
        watcher = Watcher(api, box)  # type: ignore[arg-type]
        made.append(watcher)
        watcher.start()
        return api, box, watcher

    yield start
    for watcher in made:
        watcher.stop()


def test_it_waits_for_a_listing_and_goes_on_from_its_last_word(started: Any) -> None:
    script: Script = [
        [("ADDED", body("a", "11")), ("BOOKMARK", {"metadata": {"resourceVersion": "20"}})],
        [("DELETED", body("a", "21"))],
    ]
    api, box, watcher = started(script)
    assert api.began == []
    watcher.listed("10")
    eventually(lambda: len(api.began) >= 3)
    box.drain()
    assert api.began[:3] == ["10", "20", "21"]
    assert box.taken == [("a", "21", True)], "the newest word on each is enough"
    assert box.gaps == 0


def test_a_version_that_is_too_old_needs_a_listing(started: Any) -> None:
    api, box, watcher = started([[api_error(410, "Expired", "too old")]])
    watcher.listed("10")
    eventually(lambda: box.drain() or box.gaps == 1)  # type: ignore[func-returns-value]
    watcher.listed("50")
    eventually(lambda: api.began[1:2] == ["50"])


@pytest.mark.parametrize("error", [api_error(0, "NoAnswer", "gone"), api_error(403, "Forbidden", "no")])
def test_a_refusal_is_tried_again_later(started: Any, error: Exception) -> None:
    api, box, watcher = started([[error]])
    began = time.monotonic()
    watcher.listed("10")
    eventually(lambda: len(api.began) >= 2)
    assert time.monotonic() - began > 0.4, "never at once: that would spin"
    assert api.began[:2] == ["10", "10"]
    box.drain()
    assert box.gaps == 0


def test_whatever_breaks_it_starts_anew(started: Any) -> None:
    api, box, watcher = started([[ValueError("not JSON")]])
    watcher.listed("10")
    eventually(lambda: box.drain() or box.gaps == 1)  # type: ignore[func-returns-value]
    watcher.listed("11")
    eventually(lambda: api.began[1:2] == ["11"])


def test_a_running_watch_is_not_disturbed_by_listings(started: Any) -> None:
    api, _box, watcher = started([[("ADDED", body("a", "30"))]])
    watcher.listed("10")
    eventually(lambda: len(api.began) >= 2)
    watcher.listed("25")
    eventually(lambda: len(api.began) >= 4)
    assert set(api.began) == {"10", "30"}


def test_waiting_ends_with_news() -> None:
    box = Inbox()
    box.put(SpokeJobView("a", "object", "1", None, 1), deleted=False)
    began = time.monotonic()
    box.wait(patient(30))
    assert time.monotonic() - began < 30
