"""The worker on SQLite (on PostgreSQL: tests/integration/worker).

How jobs end, their limits and what runs together is the processes' doing, not the database's: here of the long series.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.worker import Site, WorkerContract
from tests.contract.worker_ends import EndsContract, LimitsContract, TogetherContract
from tests.contract.worker_output import OutputContract


@pytest.fixture
def site(sqlite_ledger_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(sqlite_ledger_url, tmp_path)
    yield made
    made.close()


class TestWorker(WorkerContract):
    pass


@pytest.mark.long
class TestEnds(EndsContract):
    pass


@pytest.mark.long
class TestLimits(LimitsContract):
    pass


@pytest.mark.long
class TestTogether(TogetherContract):
    pass


@pytest.mark.long
class TestOutput(OutputContract):
    pass
