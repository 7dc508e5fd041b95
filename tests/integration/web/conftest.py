"""The suites of the dashboard, on PostgreSQL."""

from __future__ import annotations

import pytest


@pytest.fixture
def ledger_url(postgres_ledger_url: str) -> str:
    """The database of suites that run on others, too."""
    return postgres_ledger_url
