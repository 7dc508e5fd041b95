from __future__ import annotations

import pytest
from tests.unit.operator.world import NAME, World

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs_operator.shell.operator_client import Kind
from spoke_jobs_operator.shell.operator_metrics import OperatorMetrics
from spoke_jobs_operator.shell.store import Store


def test_those_that_wait_are_counted_by_what_for_whenever_somebody_reads() -> None:
    metrics, store, world = OperatorMetrics(), Store(), World()
    metrics.count_waiting(store.waiting)

    def waiting(reason: str) -> float | None:
        return metrics.registry.get_sample_value("spoke_operator_waiting", {"reason": reason})

    assert waiting("New") is None
    store.spokejob_seen(world.spokejob)
    for number in range(2):
        twin = world.spokejob | {
            "metadata": world.spokejob["metadata"] | {"name": f"twin-{number}", "uid": str(number)}
        }
        store.spokejob_seen(twin | {"status": {"outcome": "Waiting", "cause": "LimitReached"}})
    assert (waiting("New"), waiting("LimitReached")) == (1, 2)
    world.change(Kind.SPOKEJOB, NAME, {"outcome": "Running"}, under="status")
    store.spokejob_seen(world.spokejob)
    assert waiting("New") is None, "a reason that nobody waits for any more is not left behind as it was"


@pytest.mark.parametrize(
    ("metric", "labels"),
    [
        *(("jobs_finished", {"outcome": "Failed", "cause": cause}) for cause in CAUSES),
        ("jobs_finished", {"outcome": "Succeeded", "cause": ""}),
        *(("errors", {"where": where}) for where in ("reconcile", "compare")),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else value,
)
def test_what_alarms_count_is_told_before_it_happens(metric: str, labels: dict[str, str]) -> None:
    """An increase from nothing would be none to Prometheus: a first burst would pass unseen."""
    assert OperatorMetrics().registry.get_sample_value(f"spoke_operator_{metric}_total", labels) == 0
