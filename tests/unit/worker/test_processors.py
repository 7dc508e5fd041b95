"""How many processors a worker counts on: those of its container, not those of the node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spoke_jobs.worker.supervisor import usable_processors


@pytest.mark.parametrize(
    ("text", "processors"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("0 0", 8),
        ("garbage", 8),
        (None, 8),
    ],
)
def test_a_container_s_limit_counts_and_never_more_than_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, processors: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    quota = tmp_path / "cpu.max"
    if text is not None:
        quota.write_text(text)
    assert usable_processors(quota) == processors
