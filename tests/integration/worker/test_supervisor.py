"""The worker on PostgreSQL: how jobs end, their limits, what runs together, and what they print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.worker import Site
from tests.contract.worker_ends import EndsContract, LimitsContract, TogetherContract
from tests.contract.worker_output import OutputContract


@pytest.fixture
def site(postgres_ledger_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(postgres_ledger_url, tmp_path)
    yield made
    made.close()


class TestEnds(EndsContract):
    pass


class TestLimits(LimitsContract):
    pass


class TestTogether(TogetherContract):
    pass


class TestOutput(OutputContract):
    pass
