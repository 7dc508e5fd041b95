"""What is read of the namespace's SpokeJobs, from an API server that the test makes up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from spoke_jobs.cluster import namespace_reads
from spoke_jobs.cluster.cluster_view import SpokeJobWaits
from spoke_jobs.shared.object_fields import Page

SpokeJob = dict[str, Any]


class Api:
    """A namespace with pages of SpokeJobs."""

    def __init__(self, *pages: list[SpokeJob]) -> None:
        self._pages = pages

    def pages(self) -> Iterator[Page]:
        for items in self._pages:
            yield Page(items, "7")

    def close(self) -> None:
        pass


def read(*pages: list[SpokeJob]) -> SpokeJobWaits:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(namespace_reads.SpokeJobClient, "connect", lambda *_: Api(*pages))
        return namespace_reads.read_spokejob_waits("shop")


def spokejob(hour: int, **status: Any) -> SpokeJob:
    body: SpokeJob = {
        "metadata": {"creationTimestamp": f"2026-03-01T{hour:02}:00:00Z"},
        "spec": {"requestId": hour, "uid": "u"},
    }
    return body | {"status": status} if status else body


def at(hour: int) -> datetime:
    return datetime(2026, 3, 1, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    "unfinished",
    [
        spokejob(9),
        spokejob(9, attempt=0),
        spokejob(9, outcome="Running"),
        spokejob(9, outcome="Waiting", waiting={"code": "ClusterFull"}),
        spokejob(9, outcome="OfANewerRelease"),
    ],
)
def test_the_oldest_unfinished_spokejob_with_or_without_a_status(unfinished: SpokeJob) -> None:
    ended = [spokejob(7, outcome="Succeeded"), spokejob(8, outcome="Failed")]
    assert read([*ended, spokejob(11)], [spokejob(10), unfinished]).oldest_unfinished == at(9)


def test_none_is_unfinished() -> None:
    assert read().oldest_unfinished is None
    assert read([spokejob(7, outcome="Succeeded"), {"metadata": {"creationTimestamp": "soon"}}]) == SpokeJobWaits()


def test_the_nodes_that_run_attempts() -> None:
    def running(node: str, outcome: str = "Running", **attempt: Any) -> SpokeJob:
        return spokejob(9, outcome=outcome, attempts=[{"number": 1, "node": "gone"}, {"node": node} | attempt])

    ended = (running("a", finishedAt="2026-03-01T09:00:00Z"), running("a", "Succeeded"), running(""))
    nameless = (spokejob(9, outcome="Running"), spokejob(9), spokejob(9, outcome="Running", attempts=["x"]))
    assert read([running("b"), running("c"), *ended], [running("c"), running("a"), *nameless]).nodes == (
        ("c", 2),
        ("a", 1),
        ("b", 1),
    )


def test_only_so_many_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace_reads, "LISTED", 2)
    found = read([spokejob(11), spokejob(10)], [spokejob(9)])
    assert found == SpokeJobWaits(more=True, oldest_unfinished=at(10))
