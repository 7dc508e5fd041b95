"""Nothing that a pod says can stop the operator: each message ends its attempt with a cause, and the next job runs."""

from __future__ import annotations

import pytest
from tests.unit.operator.simulation import Simulation, start
from tests.unit.operator.world import NAME, NAMESPACE

from spoke_jobs.contract.termination import TerminationMessage
from spoke_jobs.shared.clean_text import is_storable

LONE_SURROGATE = r'{"v":1,"cause":"\ud800"}'
NUL = r'{"v":1,"cause":"Job\u0000Error"}'


def ended(code: int, message: str) -> Simulation:
    """An operator whose job may fail once, and whose attempt ended so."""
    s = start(retry={"budget": {"error": 1, "infrastructure": 1, "disruption": 1}})
    s.cluster()
    s.cluster(code, message=message)
    return s


@pytest.mark.parametrize(
    ("code", "message", "cause"),
    [
        pytest.param(1, "[" * 4096, "JobExited", id="endless lists"),
        pytest.param(10, '{"a":' * 800, "JobError", id="endless objects"),
        pytest.param(10, '{"v":1,"retryAfterSeconds":' + "9" * 4000 + "}", "JobError", id="endless number"),
        pytest.param(10, LONE_SURROGATE, "JobError", id="lone surrogate"),
        pytest.param(10, NUL, "JobError", id="NUL"),
        pytest.param(14, NUL, "Interrupted", id="NUL after SIGTERM"),
        pytest.param(10, '{"v":1,"cause":"' + "x" * 100 + '"}', "JobError", id="long cause"),
        pytest.param(10, '{"v":1,"cause":"JobError","errorType":"a\\u0000b"}', "JobError", id="NUL in an exception"),
        pytest.param(10, '{"v":1,"cause":"\\u001b[2J"}', "JobError", id="terminal escape"),
    ],
)
def test_a_hostile_message_ends_the_attempt_with_a_cause(code: int, message: str, cause: str) -> None:
    s = ended(code, message)
    assert (s.world.status["outcome"], s.world.status["cause"]) == ("Failed", cause)
    (record,) = s.world.status["attempts"]
    assert is_storable(record.get("errorType", ""))
    assert not s.pacer.has_place(next(iter(s.store.spokejobs)).key), "its place is released"  # type: ignore[union-attr]
    assert s.world.jobs == [] or s.world.live_jobs() == []
    assert s.world.status["attempts"][0]["job"] == f"{NAME}-1"


def test_a_cause_that_a_pod_invents_is_recorded_and_makes_no_series_of_its_own() -> None:
    s = ended(10, TerminationMessage("Invented").encode().decode())
    assert s.world.status["cause"] == "Invented", "it may be a newer release's"
    labels = {"namespace": NAMESPACE, "cause": "Other"}
    assert s.metrics.registry.get_sample_value("spoke_operator_attempts_failed_total", labels) == 1
