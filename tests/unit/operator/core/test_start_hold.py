"""Admission while pods of a PodTemplate can't start for a reason of their own."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.core.objects import NOW

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs_operator.core.diagnosis.attempt_state import Pends
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.obstacles.room import Group, Phase, Sighting, sighting
from spoke_jobs_operator.core.obstacles.start_hold import MOST, PROBE_AFTER, REMEMBERED, StartHolds

GROUP = Group("ns", "default")
NO_IMAGE = Wait(Cause.IMAGE_UNAVAILABLE, detail='image "app:1": not found')
STUCK = Sighting(Phase.OTHER, node="node-1", has_pod=True, stuck=NO_IMAGE)
STARTS = Sighting(Phase.HAS_NODE, node="node-1", has_pod=True)
RUNS = Sighting(Phase.OTHER, node="node-1", has_pod=True, runs=True)
BY_OTHERS = Sighting(Phase.OTHER, has_pod=True)


class Namespace:
    """The holds, with the attempts of one group. Time moves when told to."""

    def __init__(self, places: int | None = None) -> None:
        self.holds = StartHolds()
        self.places = places
        self.now: datetime = NOW
        self.keys: list[Key] = []

    def starts(self) -> Key | None:
        """The attempt that may start now, if one may; it does."""
        if self.holds.why(GROUP, self.places, self.now) is not None:
            return None
        self.keys.append(key := Key("ns", f"job-{len(self.keys)}"))
        self.holds.admit(key, GROUP, self.now)
        return key

    def see(self, key: Key, seen: Sighting) -> bool:
        return self.holds.observe(key, seen, self.now)

    def passes(self, seconds: float) -> bool:
        self.now += timedelta(seconds=seconds)
        return self.holds.tick(self.now)

    def get_stuck(self) -> int:
        """Start as many as may start, each of which gets stuck; return how many that were."""
        before = len(self.keys)
        while (key := self.starts()) is not None:
            self.see(key, STUCK)
        return len(self.keys) - before


@pytest.mark.parametrize(("places", "most"), [(None, MOST), (1000, MOST), (40, 10), (8, 2), (1, 1), (0, 1)])
def test_a_few_may_be_stuck_by_the_limit_on_running_jobs(places: int | None, most: int) -> None:
    ns = Namespace(places)
    assert ns.get_stuck() == most
    wait = ns.holds.why(GROUP, places, ns.now)
    assert wait is not None
    assert (wait.code, wait.object, wait.running, wait.since) == ("PodsNotStarting", "ImageUnavailable", most, NOW)
    assert wait.detail == f"ImageUnavailable: {NO_IMAGE.detail}"
    assert ns.holds.why(Group("ns", "other"), places, ns.now) is None
    assert ns.holds.why(Group("other", "default"), places, ns.now) is None


def test_one_probes_each_minute_but_not_without_end() -> None:
    ns = Namespace()
    ns.get_stuck()
    probes = [ns.get_stuck() for second in range(3600) if ns.passes(1)]
    assert probes[:3] == [1, 1, 1]
    assert len(ns.keys) == MOST + MOST // 2


def test_when_all_stuck_ones_have_ended_as_few_take_their_place() -> None:
    ns = Namespace(8)
    ns.get_stuck()
    for key in ns.keys:
        ns.holds.release(key, ns.now)
    assert [ns.starts() is not None for _ in range(3)] == [True, True, False]
    assert not ns.passes(REMEMBERED.total_seconds() / 20)
    assert ns.passes(REMEMBERED.total_seconds()), "those that wait may start now"
    assert [ns.starts() is not None for _ in range(30)] == [True] * 30


def test_those_that_start_at_the_same_time_count() -> None:
    ns = Namespace()
    first = [key for key in (ns.starts() for _ in range(MOST + 10)) if key]
    assert len(first) == MOST + 10, "nothing is known yet"
    ns.see(first[0], STUCK)
    assert ns.starts() is None


@pytest.mark.parametrize("ended", [False, True])
def test_once_one_runs_the_others_follow_although_some_are_still_stuck(ended: bool) -> None:
    ns = Namespace()
    ns.get_stuck()
    ns.passes(PROBE_AFTER.total_seconds())
    probe = ns.starts()
    assert probe is not None
    if ended:  # too fast to be seen running
        ns.holds.ended(probe, Cause.JOB_ERROR)
        ns.holds.release(probe, ns.now)
    else:
        assert ns.see(probe, RUNS)
    for key in ns.keys[:MOST]:
        ns.see(key, STUCK)
    assert ns.get_stuck() == MOST


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("ends", [False, True])
def test_one_that_ran_before_shows_nothing(adopted: bool, ends: bool) -> None:
    ns = Namespace()
    long = Key("ns", "long")
    ns.holds.admit(long, GROUP, ns.now, adopted=adopted)
    if not adopted:
        ns.see(long, RUNS)
    ns.get_stuck()
    ns.see(long, RUNS)
    if ends:
        ns.holds.ended(long, "")
        ns.holds.release(long, ns.now)
    ns.get_stuck()
    assert len(ns.keys) == MOST


@pytest.mark.parametrize("cause", [Cause.IMAGE_UNAVAILABLE, Cause.START_TIMEOUT, Cause.CANCELLED, Cause.NODE_LOST])
def test_an_end_that_shows_no_start_opens_nothing(cause: Cause) -> None:
    ns = Namespace()
    ns.get_stuck()
    ns.holds.ended(ns.keys[0], cause)
    assert ns.starts() is None
    ns.holds.release(ns.keys[0], ns.now)
    assert ns.get_stuck() == 1, "its place alone is free"


def test_one_that_is_stuck_no_more_counts_as_starting() -> None:
    ns = Namespace()
    ns.get_stuck()
    for key in ns.keys:
        ns.see(key, STARTS)
    assert ns.holds.published("ns") == []
    assert ns.starts() is None
    ns.see(ns.keys[0], RUNS)
    assert ns.starts() is not None


@pytest.mark.parametrize(
    ("reason", "stuck"),
    [
        (Cause.IMAGE_UNAVAILABLE, True),
        (Cause.VOLUME_CLAIM_MISSING, True),
        (Cause.POD_REJECTED, True),
        (WaitReason.UNSCHEDULABLE, True),
        (WaitReason.REGISTRY_AWAY, True),
        (WaitReason.POD_PENDING, False),
        (WaitReason.CLUSTER_FULL, False),
        (WaitReason.QUOTA_EXCEEDED, False),
        (WaitReason.WEBHOOK_AWAY, False),
        (WaitReason.QUEUED_BY_KUEUE, False),
        (WaitReason.SCHEDULING_GATED, False),
        (WaitReason.INIT_RUNNING, False),
        (WaitReason.SIDECAR_STARTING, False),
    ],
)
def test_who_waits_for_others_is_not_stuck(reason: str, stuck: bool) -> None:
    assert (sighting(None, Pends(reason, "", None)).stuck is not None) == stuck


@pytest.mark.parametrize(
    ("reason", "stuck"),
    [
        (WaitReason.NO_NODE_MATCHES, False),
        (WaitReason.UNSCHEDULABLE, False),
        (Cause.VOLUME_CLAIM_MISSING, True),
        (WaitReason.SANDBOX_FAILED, True),
    ],
)
def test_who_waits_for_the_return_of_its_node_is_not_stuck(reason: str, stuck: bool) -> None:
    assert (sighting(None, Pends(reason, "", None), node_lost=True).stuck is not None) == stuck


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "see", "release", "pass"]), st.integers(0, 40), st.integers(0, 4)),
        max_size=80,
    )
)
def test_whatever_happens_all_counts_come_back_to_nothing(steps: list[tuple[str, int, int]]) -> None:
    ns = Namespace(8)
    for step, index, what in steps:
        if step == "start":
            ns.starts()
        elif step == "pass":
            ns.passes(index)
        elif ns.keys and step == "see":
            ns.see(ns.keys[index % len(ns.keys)], (STUCK, STARTS, RUNS, BY_OTHERS, STUCK)[what])
        elif ns.keys:
            ns.holds.release(ns.keys[index % len(ns.keys)], ns.now)
    for key in ns.keys:
        ns.holds.release(key, ns.now)
    ns.passes(REMEMBERED.total_seconds())
    assert (ns.holds._attempts, ns.holds._groups) == ({}, {})
