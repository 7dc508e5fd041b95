"""What every ledger must do. Subclass it with a fixture ``ledger``, as unit and integration tests do."""

from __future__ import annotations

from tests.contract.ledger_attempts import AttemptContract
from tests.contract.ledger_batches import BatchContract
from tests.contract.ledger_pods import PodContract
from tests.contract.ledger_requests import RequestContract


class LedgerContract(AttemptContract, PodContract, BatchContract, RequestContract):
    """The guarantees that workers, pods and runners depend on."""
