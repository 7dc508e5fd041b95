"""Workers on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.worker import Site


@pytest.fixture
def site(postgres_ledger_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(postgres_ledger_url, tmp_path)
    yield made
    made.close()
