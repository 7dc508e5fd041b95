"""Admission while pods are refused: as many as fit, each end makes room for one, probes look for more."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.unit.operator.core.objects import NOW

from spoke_jobs.contract.quota_message import QuotaUse
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs_operator.core.diagnosis.refusals import quota_wait, read_refusal
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.obstacles.probing import FORGOTTEN
from spoke_jobs_operator.core.obstacles.refusal_hold import MOST_REFUSED, PATIENCE, RefusalHolds
from spoke_jobs_operator.core.obstacles.room import Group, Phase, Sighting

GROUP = Group("ns", "default")
FULL = Wait(WaitReason.QUOTA_EXCEEDED, object="few", quota=(QuotaUse("pods", "1", "5", "5"),))
POD = Sighting(Phase.HAS_NODE, node="node-1", has_pod=True)
REFUSED = Sighting(Phase.OTHER, refused=FULL)


class Namespace:
    """The holds, with the attempts of one group. Time moves when told to."""

    def __init__(self) -> None:
        self.holds = RefusalHolds()
        self.now: datetime = NOW
        self.number = 0

    def starts(self) -> Key | None:
        """The attempt that may start now, if one may; it does."""
        if self.holds.why(GROUP, self.now) is not None:
            return None
        self.number += 1
        key = Key("ns", f"job-{self.number}")
        self.holds.admit(key, GROUP, self.now)
        return key

    def start(self, seen: Sighting) -> Key:
        key = self.starts()
        assert key is not None
        self.see(key, seen)
        return key

    def see(self, key: Key, seen: Sighting) -> None:
        self.holds.observe(key, seen, self.now)

    def end(self, key: Key) -> None:
        self.holds.release(key, self.now)

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.holds.tick(self.now)


def full(pods: int, refused: int = 1) -> tuple[Namespace, list[Key], list[Key]]:
    """A namespace in which a quota allows so many pods, and so many attempts were refused."""
    ns = Namespace()
    keys = [ns.starts() for _ in range(pods + refused)]
    made = [key for key in keys if key is not None]
    for number, key in enumerate(made):
        ns.see(key, POD if number < pods else REFUSED)
    return ns, made[:pods], made[pods:]


def test_a_refusal_holds_its_group_alone_and_says_why() -> None:
    ns, _, _ = full(3)
    wait = ns.holds.why(GROUP, ns.now)
    assert wait is not None
    assert (wait.code, wait.object, wait.quota, wait.since) == ("QuotaExceeded", "few", FULL.quota, NOW)
    for held in (ns, full(0)[0]):
        assert held.holds.why(Group("ns", "other"), held.now) is None
        assert held.holds.why(Group("other", "default"), held.now) is None


def test_no_other_probes_while_nobody_knows_whether_the_last_one_fits() -> None:
    ns, _, refused = full(2)
    ns.end(refused[0])
    ns.passes(10)
    probe = ns.starts()
    assert probe is not None
    ns.passes(300)
    assert ns.starts() is None
    ns.see(probe, REFUSED)
    ns.end(probe)
    ns.passes(60)
    assert ns.starts()


def test_a_message_that_says_less_replaces_none_that_names_the_quota() -> None:
    ns, _, refused = full(3)
    ns.see(refused[0], Sighting(Phase.OTHER))
    ns.see(refused[0], Sighting(Phase.OTHER, refused=Wait(WaitReason.QUOTA_EXCEEDED)))
    wait = ns.holds.why(GROUP, ns.now)
    assert wait is not None
    assert (wait.object, wait.quota) == ("few", FULL.quota)


def test_each_end_makes_room_for_one() -> None:
    ns, pods, refused = full(3)
    ns.end(refused[0])
    assert ns.starts() is None
    ns.end(pods[0])
    assert ns.starts()
    assert ns.starts() is None


def test_up_to_half_of_the_places_are_kept_for_those_who_were_refused() -> None:
    ns, pods, refused = full(4, refused=5)
    started = 0
    for key in pods:
        ns.end(key)
        if (new := ns.starts()) is not None:
            started += 1
            ns.see(new, POD)
    assert started == 2
    for key in refused[:2]:
        ns.see(key, POD)
    assert ns.starts() is None, "the quota is used up again"


@pytest.mark.parametrize(("refused", "started"), [(MOST_REFUSED - 1, 3), (MOST_REFUSED, 0)])
def test_while_ten_are_refused_all_places_are_kept_for_them(refused: int, started: int) -> None:
    ns, pods, _ = full(3 * MOST_REFUSED, refused)
    for key in pods[: MOST_REFUSED + 2]:  # more places than are refused
        ns.end(key)
    assert sum(ns.starts() is not None for _ in range(5)) == started


def test_those_who_do_not_take_a_free_place_are_passed() -> None:
    ns, pods, _ = full(2, refused=2)
    ns.end(pods[0])
    ns.passes(PATIENCE.total_seconds() - 1)
    assert ns.starts() is None
    ns.passes(1)
    assert ns.starts()


def test_probes_come_one_at_a_time_at_growing_intervals() -> None:
    ns, _, refused = full(2)
    ns.end(refused[0])
    probes = []
    for second in range(300):
        if (probe := ns.starts()) is not None:
            probes.append(second)
            assert ns.starts() is None
            ns.holds.release(probe, ns.now)
            ns.holds.job_refused(GROUP, FULL, ns.now)
        ns.passes(1)
    assert probes == [10, 30, 70, 130, 190, 250]


def test_a_quota_that_is_raised_opens_ever_faster() -> None:
    ns, _, refused = full(2)
    ns.end(refused[0])
    ns.passes(10)
    at_once = []
    for _ in range(7):
        ns.passes(1)
        started = [key for _ in range(100) if (key := ns.starts()) is not None]
        at_once.append(len(started))
        for key in started:
            ns.see(key, POD)
    assert at_once == [1, 1, 2, 4, 8, 16, 100]
    assert ns.holds.published("ns") == []


def test_pods_that_were_made_before_the_refusal_show_no_more_room() -> None:
    ns = Namespace()
    keys = [key for _ in range(6) if (key := ns.starts()) is not None]
    ns.see(keys[5], REFUSED)
    for key in keys[:5]:
        ns.see(key, POD)
    assert ns.starts() is None
    (hold,) = ns.holds.published("ns")
    assert (hold.fits, hold.refused) == (5, 1)


def test_while_nothing_fits_few_more_are_refused() -> None:
    ns, _, _ = full(0)
    for _ in range(2000):
        ns.passes(10)
        if ns.starts() is not None:
            ns.see(Key("ns", f"job-{ns.number}"), REFUSED)
    assert ns.number == MOST_REFUSED


def test_a_large_pod_that_does_not_fit_holds_smaller_ones_up_for_a_while_only() -> None:
    ns, _, _ = full(0)
    ns.passes(PATIENCE.total_seconds())
    small = 0
    for _ in range(60):
        ns.passes(10)
        for _ in range(5):
            if (key := ns.starts()) is not None:
                ns.see(key, POD)
                small += 1
    assert small > 200


def test_a_hold_without_refusals_is_forgotten() -> None:
    ns, pods, refused = full(1)
    ns.passes(FORGOTTEN.total_seconds())
    assert ns.holds.published("ns"), "one is still refused"
    for key in (*pods, *refused):
        ns.end(key)
    assert ns.holds.tick(ns.now), "those that wait may start now"
    assert ns.holds.published("ns") == []


def test_a_new_leader_starts_none_before_it_has_seen_those_that_run() -> None:
    ns = Namespace()
    ns.holds.resume(GROUP, Wait(WaitReason.QUOTA_EXCEEDED, object="few", since=NOW - timedelta(hours=1)), NOW)
    running = [Key("ns", f"old-{number}") for number in range(3)]
    for key in running:
        ns.holds.admit(key, GROUP, NOW)
    assert ns.starts() is None
    for key in running:
        ns.see(key, POD)
    ns.end(running[0])
    assert ns.starts()
    wait = ns.holds.why(GROUP, ns.now)
    assert wait is not None
    assert wait.since == NOW - timedelta(hours=1)


@pytest.mark.parametrize(
    ("amounts", "waits"),
    [
        ("requested: pods=1, used: pods=5, limited: pods=5", True),
        ("requested: pods=1, used: pods=0, limited: pods=0", True),  # somebody has closed the namespace
        ("requested: cpu=600m, used: cpu=50m, limited: cpu=500m", False),
        ("requested: cpu=500m, used: cpu=50m, limited: cpu=500m", True),
        ("requested: memory=2Gi,pods=1, used: memory=0,pods=5, limited: memory=1Gi,pods=5", False),
        ("requested: memory=2Gi, used: memory=0, limited: memory=1e9", True),  # not understood
        ("", True),
    ],
)
def test_who_alone_exceeds_a_quota_does_not_wait_for_it(amounts: str, waits: bool) -> None:
    message = f'pods "x" is forbidden: exceeded quota: q, {amounts}'
    wait = quota_wait(message)
    assert (wait is not None) == waits
    refusal = read_refusal(403, message, NOW)
    assert refusal is not None
    assert refusal.wait.code == ("QuotaExceeded" if waits else "PodRejected")
    if wait is not None and not wait.quota:
        assert wait.detail == message
