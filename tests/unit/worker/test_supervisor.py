"""The worker on SQLite. How jobs end, their limits, and what runs together: tests/integration/worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.worker import Site, WorkerContract


@pytest.fixture
def site(sqlite_ledger_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(sqlite_ledger_url, tmp_path)
    yield made
    made.close()


class TestWorker(WorkerContract):
    pass
