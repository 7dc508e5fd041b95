"""What every ledger must do. Subclass it with a fixture ``ledger``, as unit and integration tests do."""

from __future__ import annotations

from tests.contract.ledger_attempts import AttemptContract
from tests.contract.ledger_batches import BatchContract
from tests.contract.ledger_dependencies import DependencyContract, GroupContract
from tests.contract.ledger_lanes import LaneContract
from tests.contract.ledger_limits import LimitContract
from tests.contract.ledger_pods import CheckpointContract, PodContract
from tests.contract.ledger_requests import RequestContract, UniqueContract
from tests.contract.ledger_starts import StartContract
from tests.contract.ledger_turns import TurnContract


class LedgerContract(
    AttemptContract,
    PodContract,
    BatchContract,
    LaneContract,
    LimitContract,
    TurnContract,
    RequestContract,
    StartContract,
    UniqueContract,
    CheckpointContract,
    DependencyContract,
    GroupContract,
):
    """The guarantees that workers, pods and runners depend on."""
