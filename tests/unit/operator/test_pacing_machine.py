"""Whatever happens to many SpokeJobs at once: one leader keeps limits and locks, and everybody's turn comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.unit.operator.machine import NEWS, OperatorMachine
from tests.unit.operator.simulation import Simulation
from tests.unit.operator.world import NAME, Object, World, ended, finished

from spoke_jobs.contract.names import LABEL_SPOKEJOB
from spoke_jobs_operator.core.admit import Limits
from spoke_jobs_operator.shell.operator_client import Kind

FINAL = ("Succeeded", "Failed")
NODE_SLACK = timedelta(seconds=5)
MOST = 12
"""SpokeJobs in one world: enough for three to wait behind each limit."""
BOUNDS = st.sampled_from([None, None, 1, 1, 2, 3])
ALONE = [Limits(running=1), Limits(in_namespace=1), Limits(in_queue=1), Limits(for_organization=1)]
"""Where nothing else holds anybody back: one that is kept hides another that isn't."""
LIMITS = st.builds(Limits, running=BOUNDS, in_namespace=BOUNDS, in_queue=BOUNDS, for_organization=BOUNDS)


class Crowd(World):
    """A world of many SpokeJobs, whose Jobs go with them."""

    def __init__(self) -> None:
        super().__init__()
        del self.objects[Kind.SPOKEJOB][NAME]
        self.news.clear()

    def spokejobs(self) -> list[Object]:
        return list(self.objects[Kind.SPOKEJOB].values())

    def garbage_collector(self) -> None:
        there = {item["metadata"]["name"] for item in self.spokejobs()}
        for job in self.jobs:
            if job["metadata"]["labels"][LABEL_SPOKEJOB] not in there:
                self.delete(Kind.JOB, job["metadata"]["name"])
        super().garbage_collector()

    def occupied(self) -> Iterator[Object]:
        """The specs of those of whom something runs, or is about to, as far as the operator promises to know.

        It promises nothing of a pod that was told to end and whose node does not say that it has: 5 s after its grace
        period such a pod counts as lost with its node.
        """
        for item in self.spokejobs():
            name = item["metadata"]["name"]
            pods = [pod for pod in self.pods if pod["metadata"]["labels"].get(LABEL_SPOKEJOB) == name]
            jobs = [job for job in self.live_jobs() if job["metadata"]["labels"][LABEL_SPOKEJOB] == name]
            awaited = any(
                not any(pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"] for pod in pods)
                and not job.get("status", {}).get("started")
                for job in jobs
            )
            if awaited or not all(ended(pod) or self._is_lost(pod) for pod in pods):
                yield item["spec"]

    def _is_lost(self, pod: Object) -> bool:
        deleted = pod["metadata"].get("deletionTimestamp")
        return deleted is not None and self.now >= datetime.fromisoformat(deleted) + NODE_SLACK


class Pacing(OperatorMachine):
    """The operator, many SpokeJobs, and people and machines that do as they like."""

    limits_drawn = LIMITS

    @initialize(data=st.data(), news=NEWS, alike=st.sampled_from([0, 2, 3]))
    def begin(self, data: st.DataObject, news: tuple[float, ...], alike: int) -> None:
        self.limits = limits = data.draw(self.limits_drawn)
        self.world = Crowd()
        self.sim = Simulation(self.world, limits=limits, news=news)
        self.made = 0
        self._dispatch(alike, queue="a", organization=1)  # any limit holds one of them back

    # People

    @precondition(lambda self: self.made < MOST)
    @rule(
        queue=st.sampled_from(["", "a", "b"]),
        locks=st.booleans(),
        organization=st.sampled_from([None, 1, 2]),
        priority=st.sampled_from([0, 0, 5]),
        suspend=st.sampled_from([False, False, True]),
        count=st.integers(1, 4),
    )
    def somebody_dispatches(
        self, queue: str, locks: bool, organization: int | None, priority: int, suspend: bool, count: int
    ) -> None:
        theirs = {} if organization is None else {"organization": organization}
        self._dispatch(count, queue=queue, locksQueue=locks, priority=priority, suspend=suspend, **theirs)

    def _dispatch(self, count: int, **spec: Any) -> None:
        for _ in range(min(count, MOST - self.made)):
            self.made += 1
            usual = {"locksQueue": False, "retry": {"backoffSeconds": 1, "jitter": 0}}
            self.world.put_spokejob(f"job-{self.made}", **usual | spec)

    @precondition(lambda self: self.world.spokejobs())
    @rule(index=st.integers(0, MOST), suspend=st.booleans())
    def somebody_suspends_or_resumes(self, index: int, suspend: bool) -> None:
        self.world.change(Kind.SPOKEJOB, self._some(index), {"suspend": suspend}, under="spec")

    @precondition(lambda self: self.world.spokejobs())
    @rule(index=st.integers(0, MOST))
    def somebody_cancels(self, index: int) -> None:
        self.world.change(Kind.SPOKEJOB, self._some(index), {"cancel": True}, under="spec")

    @precondition(lambda self: self.world.spokejobs())
    @rule(index=st.integers(0, MOST))
    def somebody_deletes_a_spokejob(self, index: int) -> None:
        name = self._some(index)
        if any(spec is self.world.objects[Kind.SPOKEJOB][name]["spec"] for spec in self.world.occupied()):
            return  # the garbage collector ends what runs of it in its own time: nobody counts that
        self.world.delete(Kind.SPOKEJOB, name)

    @precondition(lambda self: self.world.jobs)
    @rule(index=st.integers(0, MOST))
    def somebody_deletes_a_job(self, index: int) -> None:
        self.world.delete(Kind.JOB, self.world.jobs[index % len(self.world.jobs)]["metadata"]["name"], foreground=True)

    # The cluster

    @rule()
    def pods_are_made_and_start(self) -> None:
        self.world.job_controller()
        self.world.kubelet()

    @precondition(lambda self: self.world.pods)
    @rule(index=st.integers(0, MOST), code=st.sampled_from([0, 0, 10, 12, 137]))
    def a_pod_ends(self, index: int, code: int) -> None:
        pod = self.world.pods[index % len(self.world.pods)]
        state = pod["status"].get("containerStatuses", [{}])[0].get("state", {})
        if "running" in state:
            self.world._end_pod(pod, code, "", "")

    # What holds at every moment

    @invariant()
    def limits_are_kept(self) -> None:
        specs = list(self.world.occupied())
        for in_all in (self.limits.running, self.limits.in_namespace):  # the world is one namespace
            assert in_all is None or len(specs) <= in_all
        for bound, counts in (
            (self.limits.in_queue, Counter(spec["queue"] for spec in specs if spec["queue"])),
            (self.limits.for_organization, Counter(spec.get("organization") for spec in specs)),
        ):
            counts.pop(None, None)
            assert bound is None or all(count <= bound for count in counts.values()), counts

    @invariant()
    def a_queue_has_one_that_locks_it(self) -> None:
        holders = Counter(spec["queue"] for spec in self.world.occupied() if spec["locksQueue"])
        assert all(count == 1 for count in holders.values()), holders

    @invariant()
    def nobody_has_two_jobs_that_run(self) -> None:
        owners = Counter(job["metadata"]["labels"][LABEL_SPOKEJOB] for job in self.world.running_jobs())
        assert all(count == 1 for count in owners.values()), owners

    # Once things calm down, everybody's turn comes

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world, sim = self.world, self.sim
        for item in world.spokejobs():
            world.change(Kind.SPOKEJOB, item["metadata"]["name"], {"suspend": False}, under="spec")
        sim.compare(everything=True)
        for _ in range(200):
            self._calmly()
            if all(item.get("status", {}).get("outcome") in FINAL for item in world.spokejobs()):
                break
        assert {item.get("status", {}).get("outcome") for item in world.spokejobs()} <= set(FINAL), world.spokejobs()
        for _ in range(40):
            self._calmly()
        assert world.live_pods() == []
        assert [job for job in world.jobs if not finished(job)] == []
        assert sim.pacer.usage.total == 0, "all places are given back"
        assert len(sim.pacer) == 0

    def _calmly(self) -> None:
        self.sim.pass_time(5)
        self.sim.cluster()
        self.limits_are_kept()
        self.a_queue_has_one_that_locks_it()
        self.sim.cluster(0)

    def _some(self, index: int) -> str:
        there = self.world.spokejobs()
        return str(there[index % len(there)]["metadata"]["name"])


TestPacing = Pacing.TestCase
TestPacing.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("limits", ALONE, ids=str)
def test_a_limit_that_stands_alone(limits: Limits) -> None:
    few = settings(max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(type("Alone", (Pacing,), {"limits_drawn": st.just(limits)}), settings=few)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_more() -> None:
    many = settings(
        max_examples=1000, stateful_step_count=80, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(Pacing, settings=many)
