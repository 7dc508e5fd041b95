"""A page waits for the cluster only briefly, and leaves no work behind."""

from __future__ import annotations

import threading

import pytest
from tests.waiting import patient

from spoke_jobs.cluster.cluster_view import SpokeJobWaits
from spoke_jobs.web import cluster_reads
from spoke_jobs.web.cluster_reads import SLOW, ClusterReads


def test_a_read_that_nobody_waits_for_any_more_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the reads for all pages of an outage would follow once the cluster answers."""
    monkeypatch.setattr(cluster_reads, "_THREADS", 1)
    begun: list[str] = []

    def waits_in(namespace: str) -> SpokeJobWaits:
        begun.append(namespace)
        return SpokeJobWaits()

    monkeypatch.setattr(cluster_reads, "waits_in", waits_in)
    reads, answers = ClusterReads("jobs"), threading.Event()
    reads._threads.submit(answers.wait, patient(60))  # a read that gets no answer
    try:
        monkeypatch.setattr(cluster_reads, "SECONDS", 0.01)
        assert [reads.waits().problem for _ in range(3)] == [SLOW] * 3
        answers.set()
        monkeypatch.setattr(cluster_reads, "SECONDS", patient(60))
        assert reads.waits().problem == ""
        assert begun == ["jobs"]
    finally:
        answers.set()
        reads.close()
