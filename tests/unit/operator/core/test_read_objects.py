from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.operator.core.objects import job
from tests.unit.operator.world import World

from spoke_jobs.contract.spokejob import SpokeJob
from spoke_jobs_operator.core.api_objects import Key, Unreadable
from spoke_jobs_operator.core.read_objects import read_event, read_job, read_pod, read_spokejob, read_template

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    (
        *("metadata", "labels", "ownerReferences", "creationTimestamp", "spec", "status", "conditions", "type"),
        *("containerStatuses", "initContainerStatuses", "state", "terminated", "exitCode", "waiting", "running"),
        *("startedAt", "reason", "involvedObject", "template"),
    )
)
ODD = st.recursive(JSON, lambda inner: st.dictionaries(FIELDS, inner, max_size=6) | st.lists(inner, max_size=2))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(FIELDS, ODD, max_size=6))
def test_no_odd_object_stops_the_reading(body: dict[str, object]) -> None:
    read_job(body)
    read_pod(body)
    read_template(body)
    read_event(body)


def test_a_jobs_owner_is_its_controller() -> None:
    assert job().owner == "sj-uid"


def test_a_spokejob_is_read() -> None:
    assert isinstance(read_spokejob(World().spokejob), SpokeJob)


@pytest.mark.parametrize("settled", [False, True])
def test_an_unreadable_spokejob_names_its_fields_but_no_values(settled: bool) -> None:
    world = World(requestId="secret")
    if settled:
        world.spokejob["status"] = {"outcome": "Failed"}
    item = read_spokejob(world.spokejob)
    assert isinstance(item, Unreadable)
    assert item.key == Key("jobs", world.spokejob["metadata"]["name"])
    assert "requestId" in item.problem
    assert "secret" not in item.problem
    assert item.settled is settled
