"""Which standby pods of a PodTemplate are created and deleted, and how many are kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.core.objects import NOW
from tests.unit.operator.core.standby_objects import DIGEST, member, standby_job, standby_pod

from spoke_jobs_operator.core.objects.template_annotations import StandbyBounds
from spoke_jobs_operator.core.standby.pool import (
    FIRST_LEAD,
    LONGEST_LEAD,
    LONGEST_START,
    WINDOW,
    Demand,
    Member,
    Why,
    failures,
    hindrance,
    is_free,
    lead_time,
    plan,
    wanted,
)

HOUR = timedelta(hours=1)
EXITED: dict[str, Any] = {"terminated": {"exitCode": 10, "message": '{"v": 1, "cause": "BadSetup"}'}}


def ended(name: str = "default-standby-1", **more: Any) -> Member:
    """A standby pod whose application can't be imported."""
    return Member(standby_job(name, **more), standby_pod(name, phase="Failed", state=EXITED))


bounds = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda pair: StandbyBounds(min(pair), max(pair)))
moments = st.lists(st.integers(-1200, 5).map(lambda seconds: NOW + timedelta(seconds=seconds)), max_size=60)
leads = st.integers(1, 120).map(lambda seconds: timedelta(seconds=seconds))


@given(bounds, moments, leads)
def test_the_number_is_between_the_bounds_and_old_arrivals_do_not_count(
    given_bounds: StandbyBounds, arrivals: list[datetime], lead: timedelta
) -> None:
    number = wanted(given_bounds, arrivals, lead, NOW)
    assert given_bounds.minimum <= number <= given_bounds.maximum
    assert number == wanted(given_bounds, [at for at in arrivals if at > NOW - WINDOW], lead, NOW)
    assert wanted(given_bounds, arrivals, lead, NOW + 3 * WINDOW) == given_bounds.minimum


@given(moments, leads)
def test_arrivals_that_come_again_each_find_a_pod(arrivals: list[datetime], lead: timedelta) -> None:
    """Replay the arrivals: each takes a pod, whose replacement is ready after the lead time."""
    recent = sorted(at for at in arrivals if NOW - WINDOW < at <= NOW)
    free = wanted(StandbyBounds(0, 500), arrivals, lead, NOW)
    assert free <= len(recent), "no more than ever used"
    replacements: list[datetime] = []
    for at in recent:
        free += sum(1 for ready_at in replacements if ready_at < at)
        replacements = [ready_at for ready_at in replacements if ready_at >= at]
        assert free > 0
        free -= 1
        replacements.append(at + lead)


def test_the_lead_time_is_the_longest_start_within_bounds() -> None:
    assert lead_time([]) == FIRST_LEAD
    behind = lead_time([timedelta(seconds=-1)])  # the operator's clock is behind the API server's
    assert wanted(StandbyBounds(0, 5), [NOW], behind, NOW) == 1
    assert lead_time([timedelta(seconds=2), timedelta(seconds=7), timedelta(seconds=3)]) == timedelta(seconds=7)
    assert lead_time([HOUR]) == LONGEST_LEAD


states = st.fixed_dictionaries(
    {
        "ready": st.booleans(),
        "reserved": st.booleans(),
        "ours": st.booleans(),
        "ended": st.booleans(),
        "digest": st.sampled_from([DIGEST, "earlier"]),
        "age": st.sampled_from([1, 1800, 7200]).map(lambda seconds: timedelta(seconds=seconds)),
    }
)


def made(number: int, state: dict[str, Any]) -> Member:
    name = f"default-standby-{number}"
    found = member(name, ready=state["ready"], reserved=state["reserved"], age=state["age"], digest=state["digest"])
    pod = standby_pod(name, phase="Failed", state=EXITED) if state["ended"] else found.pod
    return replace(found, pod=pod, ours=state["ours"])


@given(st.lists(states, max_size=12), st.integers(0, 8), st.sampled_from([DIGEST, ""]))
def test_after_the_plan_as_many_wait_as_are_wanted(drawn: list[dict[str, Any]], number: int, digest: str) -> None:
    members = [made(number, state) for number, state in enumerate(drawn)]
    number = number if digest else 0
    decided = plan(members, Demand(digest, number), NOW, HOUR)
    deleted = {removal.job.meta.uid for removal in decided.delete}
    assert len(deleted) == len(decided.delete), "each once"
    assert not deleted & {item.job.meta.uid for item in members if item.reserved}, "an attempt is about to have it"
    waits = [item for item in members if item.job.meta.uid not in deleted and not item.reserved and not item.ended]
    assert len(waits) + decided.create == number
    for item in waits:
        assert item.is_of(digest)
        assert item.ours
        assert item.job.meta.created_at is not None
        assert NOW - item.job.meta.created_at < (HOUR if item.ready else HOUR + LONGEST_START)
    left = [item for item in members if item.ended and not item.reserved and item.job.meta.uid not in deleted]
    assert len(left) <= 1, "of those that ended, one is kept to be looked at"
    again = plan([item for item in members if item.job.meta.uid not in deleted], Demand(digest, len(waits)), NOW, HOUR)
    assert (again.create, again.delete) == (0, ()), "nothing more to do"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (member(digest="earlier"), Why.CHANGED),
        (replace(member(), ours=False), Why.UNKNOWN),
        (member(age=HOUR), Why.OLD),
        (member(ready=False, age=HOUR + LONGEST_START), Why.OLD),
    ],
)
def test_a_pod_is_replaced(found: Member, why: Why) -> None:
    decided = plan([found], Demand(DIGEST, 1), NOW, HOUR)
    assert (decided.create, [item.why for item in decided.delete]) == (1, [why])


def test_a_pod_that_starts_slowly_is_not_replaced_by_one_that_does_so_too() -> None:
    age = timedelta(seconds=60)
    decided = plan([member(ready=False, age=age)], Demand(DIGEST, 1), NOW, age)
    assert (decided.create, decided.delete) == (0, ())


@pytest.mark.parametrize(
    ("made", "ran"),
    [
        pytest.param(180, 5, id="the pull of its image does not count"),
        pytest.param(5, 180, id="its node's clock is late"),
    ],
)
def test_the_age_of_a_pod_that_is_ready_counts_from_the_start_of_its_container(made: int, ran: int) -> None:
    age = timedelta(seconds=60)
    pod = standby_pod(state={"running": {"startedAt": (NOW - timedelta(seconds=ran)).isoformat()}})
    decided = plan([Member(standby_job(age=timedelta(seconds=made)), pod, ready=True)], Demand(DIGEST, 1), NOW, age)
    assert (decided.create, decided.delete) == (0, ())


def test_the_pods_of_one_moment_do_not_expire_at_once() -> None:
    members = [member(f"default-standby-{number}", age=HOUR * 0.9) for number in range(40)]
    decided = plan(members, Demand(DIGEST, 40), NOW, HOUR)
    assert 5 < len(decided.delete) < 35


def test_a_pod_that_starts_is_surplus_before_one_that_is_ready() -> None:
    decided = plan([member("ready-1"), member("starts-2", ready=False)], Demand(DIGEST, 1), NOW, HOUR)
    assert [(item.job.meta.key.name, item.why) for item in decided.delete] == [("starts-2", Why.SURPLUS)]


def test_after_a_failure_the_next_one_waits_and_the_newest_failed_one_is_kept() -> None:
    first, second = ended("default-standby-1", age=HOUR / 2), ended("default-standby-2")
    retry_at = NOW + timedelta(seconds=5)
    decided = plan([first, second], Demand(DIGEST, 2, retry_at), NOW, HOUR)
    assert (decided.create, decided.check_at) == (0, retry_at)
    assert [item.job.meta.key.name for item in decided.delete] == ["default-standby-1"]
    assert plan([second], Demand(DIGEST, 2, retry_at), retry_at, HOUR).create == 2
    decided = plan([second, member("default-standby-3")], Demand(DIGEST, 1), NOW, HOUR)
    assert [item.why for item in decided.delete] == [Why.ENDED], "one works: the failed one is old news"


def test_a_drained_pod_that_was_ready_is_no_failure() -> None:
    interrupted = {"terminated": {"exitCode": 14}}
    pod = standby_pod(deleted=True, disruption="EvictionByEvictionAPI", state=interrupted)
    drained = Member(standby_job(), pod, ready=True)
    gone = Member(standby_job(conditions=(("Failed", "PodFailurePolicy"),)), ready=True)
    assert failures([drained, gone]) == failures([member()]) == []
    assert failures([ended()]) == [ended().job]


def test_a_pod_that_never_was_ready_is_a_failure_whatever_ended_it() -> None:
    """Otherwise those that each node refuses would be made again and again without a pause."""
    refused = Member(standby_job(), standby_pod(deleted=True, disruption="EvictionByEvictionAPI"))
    deleted = Member(standby_job(conditions=(("Failed", "BackoffLimitExceeded"),)))
    assert failures([refused, deleted]) == [refused.job, deleted.job]


def test_a_pod_that_ends_is_not_free() -> None:
    assert is_free(member())
    assert not is_free(replace(ended(), ready=True))
    assert not is_free(replace(member(), pod=standby_pod(deleted=True)))
    assert not is_free(member(deleted=True))


def test_a_pod_whose_node_is_silent_is_not_free() -> None:
    known = member()
    assert known.pod is not None
    assert is_free(known)
    assert not is_free(replace(known, pod=replace(known.pod, node_silent=True)))
    assert not is_free(replace(known, pod=None))


def asked(seconds: float) -> Member:
    """A standby pod that was first asked so long ago, and has not answered."""
    return replace(member(ready=False, age=HOUR), asked_since=NOW - timedelta(seconds=seconds))


PULLS = {"waiting": {"reason": "ImagePullBackOff", "message": "app:9: not found"}}


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ([asked(61)], "NoAnswer"),
        ([asked(59)], ""),
        ([member(ready=False, age=HOUR)], ""),
        ([replace(asked(61), ours=False)], ""),
        ([member("old", ready=False, age=HOUR), member("ready")], ""),
        ([Member(standby_job(age=HOUR), standby_pod(phase="Pending", state=PULLS))], "ImageUnavailable"),
        ([Member(standby_job(age=HOUR), standby_pod(phase="Pending", state={"waiting": {}}))], ""),
        ([ended(age=HOUR)], ""),
        ([], ""),
    ],
)
def test_what_keeps_pods_from_being_ready_is_found_after_a_minute(members: list[Member], found: str) -> None:
    assert hindrance(members, lambda _member: (), NOW) == found
