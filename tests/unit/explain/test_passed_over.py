"""That workers pass over a job is said only if no running worker can be thought to take it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.explain.situations import NOW, a_job, a_load, a_trace, before

from spoke_jobs.explain.passed_over import claimable_since, passed_over
from spoke_jobs.ledger.reading.takers import Takers, Trace


def an_export(**changes: Any) -> Trace:
    """An attempt of a later job of another type, which began while ours was due."""
    values = {"job_id": 40, "job_type": "export", "claimed_at": before(seconds=20), "heartbeat_at": before(seconds=1)}
    return a_trace(**(values | changes))


def is_passed_over(*traces: Trace, limited: bool = False, **changes: Any) -> bool:
    of_takers = {name: changes.pop(name) for name in ("known_to", "rules_since") if name in changes}
    takers = Takers((a_load(),), traces, **of_takers)
    return bool(passed_over(a_job(**changes), takers, NOW, limited=limited))


def test_by_a_later_job_and_by_one_of_a_lower_priority() -> None:
    assert is_passed_over(an_export())
    assert is_passed_over(an_export(job_id=5, priority=-1, organization_id=318))


def test_not_by_what_comes_first() -> None:
    assert not is_passed_over(an_export(job_id=5))
    assert not is_passed_over(an_export(priority=5))


def test_a_flood_of_one_organization_waits_while_others_take_their_turns() -> None:
    others = [
        an_export(job_id=40 + number, organization_id=organization) for number, organization in enumerate((7, 8, None))
    ]
    assert not is_passed_over(*others, organization_id=245)
    assert is_passed_over(*others, an_export(organization_id=245), organization_id=245)


def test_the_only_job_of_a_small_organization_is_not_passed_over_by_a_flood_of_another() -> None:
    assert not is_passed_over(
        *(an_export(job_id=number, organization_id=245) for number in range(40, 90)), organization_id=7
    )


@pytest.mark.parametrize(
    ("traces", "known_to"),
    [
        ((a_trace(claimed_at=before(minutes=29)),), {}),
        ((), {"report": frozenset({"host:1"})}),
        ((an_export(job_id=39, job_type="report", worker="host:2", heartbeat_at=before(seconds=50)),), {}),
    ],
    ids=["it claimed one recently", "it ran one long ago", "another worker did, which had a sign of life just now"],
)
def test_not_if_a_worker_that_has_run_the_type_may_still_run(traces: tuple[Trace, ...], known_to: Any) -> None:
    assert not is_passed_over(an_export(), *traces, known_to=known_to)


def test_a_worker_that_knew_the_type_and_is_gone_does_not_count() -> None:
    gone = a_trace(worker="host:2", claimed_at=before(minutes=12), heartbeat_at=before(minutes=11))
    assert is_passed_over(an_export(), gone, known_to={"report": frozenset({"host:3"})})


def test_not_while_a_worker_has_been_busy_since_the_job_was_due() -> None:
    busy = a_load(worker="host:2")
    assert not passed_over(a_job(), Takers((a_load(), busy), (an_export(),)), NOW, limited=False)
    lost = a_load(worker="host:2", running=1, lapsed=1)
    assert passed_over(a_job(), Takers((a_load(), lost), (an_export(),)), NOW, limited=False)


def test_not_if_a_limit_may_have_held_it_back() -> None:
    assert not is_passed_over(an_export(), limited=True)
    assert not is_passed_over(an_export(), rules_since=before(seconds=18)), "a pause ended"
    assert is_passed_over(an_export(), rules_since=before(seconds=30))


def test_not_while_its_queue_was_locked() -> None:
    of_the_queue = {"queue_name": "q", "locks_queue": True}
    held = a_trace(job_id=9, worker="host:2", finished_at=before(seconds=10), **of_the_queue, job_type="other")
    assert not is_passed_over(an_export(), held, **of_the_queue)
    assert is_passed_over(an_export(), held, queue_name="q"), "ours does not lock it"


def test_not_by_a_claim_at_the_moment_when_it_was_due() -> None:
    assert not is_passed_over(an_export(claimed_at=before(seconds=57)))


def test_not_by_a_claim_before_the_job_was_given_back() -> None:
    released = {"created_at": before(minutes=20), "run_after": before(minutes=10), "updated_at": before(seconds=20)}
    assert not is_passed_over(an_export(claimed_at=before(minutes=5)), **released)
    assert is_passed_over(an_export(claimed_at=before(seconds=10)), **released)


def test_a_job_that_was_retried_by_hand_is_due_since_then() -> None:
    assert claimable_since(a_job(created_at=before(days=3), updated_at=before(seconds=9)), Takers()) == before(
        seconds=9
    )
