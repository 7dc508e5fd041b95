from __future__ import annotations

import pytest
from tests.unit.operator.core.objects import job
from tests.unit.operator.world import World

from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs_operator.core.objects.api_objects import Key, Unreadable
from spoke_jobs_operator.core.objects.read_objects import read_spokejob


def test_a_jobs_owner_is_its_controller() -> None:
    assert job().owner == "sj-uid"


def test_a_spokejob_is_read() -> None:
    assert isinstance(read_spokejob(World().spokejob), SpokeJob)


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-01-01T00:00:00"])
def test_a_spokejob_with_a_time_that_nothing_can_be_added_to_is_unreadable(moment: str) -> None:
    body = World().spokejob | {"status": {"finishedAt": moment}}
    found = read_spokejob(body)
    assert isinstance(found, Unreadable)
    assert found.problem == "status.finishedAt"


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


@pytest.mark.parametrize(
    "amounts", [{"k" * 100_000: 1}, {f"k{number}": 1 for number in range(2000)}], ids=("long", "many")
)
def test_the_names_of_unreadable_fields_stay_short(amounts: dict[str, int]) -> None:
    """They go to the log and to the status, and an author of SpokeJobs chooses some of them."""
    item = read_spokejob(World(resources={"limits": amounts}).spokejob)
    assert isinstance(item, Unreadable)
    assert item.problem.startswith("spec.resources.limits.k")
    assert len(item.problem) == 500
    assert item.problem.endswith("...")
