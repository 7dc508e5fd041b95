"""The ledger in memory keeps the contract."""

from __future__ import annotations

import pytest
from tests.contract.ledger_contract import LedgerContract

from spoke_jobs.ledger.memory_ledger import MemoryLedger


class TestMemoryLedger(LedgerContract):
    @pytest.fixture
    def ledger(self) -> MemoryLedger:
        return MemoryLedger()
