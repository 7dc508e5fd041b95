"""Whatever happens to many SpokeJobs at once: one leader keeps limits and locks, and everybody's turn comes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, ClassVar

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
from tests.unit.operator.world import NAME, NAMESPACE, TEMPLATE, Object, World, ended, finished

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.limit_model import applying
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.contract.names import LABEL_SPOKEJOB
from spoke_jobs.contract.termination import ExitCode, TerminationMessage
from spoke_jobs_operator.core.limits.limits import Limits
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Kind

START_TIMEOUT = 50
FINAL = ("Succeeded", "Failed")
NODE_SLACK = timedelta(seconds=5)
OTHER = "others"
TEMPLATES = {NAMESPACE: TEMPLATE, OTHER: "theirs"}
"""The PodTemplate of each namespace."""
NAMESPACES = st.sampled_from([NAMESPACE, NAMESPACE, OTHER])
MOST = 12
"""SpokeJobs in one world: enough for three to wait behind each limit."""
SCOPES = (
    *("all", "all", "queue:a", "each-queue", "organization:1", "each-organization", "lane:x"),
    *("type:mail", "type:ingest.*", "each-type", "key:k"),
)
BOUNDS = st.sampled_from([None, None, 1, 1, 2, 3])
LIMITS = st.builds(
    Limits,
    running=BOUNDS,
    in_namespace=BOUNDS,
    in_queue=BOUNDS,
    for_organization=BOUNDS,
    unfinished=st.sampled_from([None, None, 1, 3]),
)


def subject_of(spec: Object) -> Subject:
    return Subject(spec["jobType"], spec["queue"], spec.get("organization"), spec.get("limitKey") or None)


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
        """Those of whom something runs, or is about to, as far as the operator promises to know.

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
                yield item

    def _is_lost(self, pod: Object) -> bool:
        deleted = pod["metadata"].get("deletionTimestamp")
        return deleted is not None and self.now >= datetime.fromisoformat(deleted) + NODE_SLACK


class Pacing(OperatorMachine):
    """The operator, many SpokeJobs, and people and machines that do as they like."""

    max_pending: int | None = None
    """None for no holds."""
    room: int | None = None
    """How many pods the nodes have room for; None for any number."""
    usual: ClassVar[Object] = {"locksQueue": False, "retry": {"backoffSeconds": 1, "jitter": 0}}

    @initialize(limits=LIMITS, news=NEWS, alike=st.sampled_from([0, 2, 3]))
    def begin(self, limits: Limits, news: tuple[float, ...], alike: int) -> None:
        self.world = Crowd()
        self.world.room = self.room
        self.world.put_template(name=TEMPLATES[OTHER], namespace=OTHER)
        self.sim = Simulation(self.world, limits=limits, news=news, max_pending=self.max_pending)
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
        namespace=NAMESPACES,
        kind=st.sampled_from(["mail", "mail", "ingest.csv"]),
        key=st.sampled_from([None, "k"]),
    )
    def somebody_dispatches(
        self,
        queue: str,
        locks: bool,
        organization: int | None,
        priority: int,
        suspend: bool,
        count: int,
        namespace: str,
        kind: str,
        key: str | None,
    ) -> None:
        given = {"organization": organization, "limitKey": key}
        theirs = {name: value for name, value in given.items() if value is not None} | {"jobType": kind}
        self._dispatch(count, namespace, queue=queue, locksQueue=locks, priority=priority, suspend=suspend, **theirs)

    @rule(
        number=st.integers(1, 2),
        namespace=NAMESPACES,
        scope=st.sampled_from(SCOPES),
        most=st.sampled_from([None, 0, 1, 2]),
        pause=st.sampled_from([None, None, 0, 15]),
        weight=st.sampled_from([None, 3]),
        cap=st.sampled_from([None, 0]),
        oldest=st.sampled_from([None, None, 0, 2]),
        rate=st.sampled_from([None, None, ("1/s", 1), ("2/s", 2), ("2/10s", 1), ("1/min", 2)]),
    )
    def somebody_sets_a_limit(
        self,
        number: int,
        namespace: str,
        scope: str,
        most: int | None,
        pause: int | None,
        weight: int | None,
        cap: int | None,
        oldest: int | None,
        rate: tuple[str, int] | None,
    ) -> None:
        spec: dict[str, Any] = {"scope": scope, "maxRunning": most, "weight": weight, "maxPriority": cap}
        spec["maxUnfinished"] = oldest
        spec["rate"], spec["burst"] = rate or (None, None)
        if pause is not None:
            until = {"until": (self.world.now + timedelta(seconds=pause)).isoformat()} if pause else {}
            spec["paused"] = {"reason": "planted"} | until
        given = {name: value for name, value in spec.items() if value is not None}
        self.world.put_limit(f"limit-{number}-{namespace}", namespace, **given)

    @precondition(lambda self: self.world.objects[Kind.SPOKELIMIT])
    @rule(index=st.integers(0, MOST))
    def somebody_deletes_a_limit(self, index: int) -> None:
        there = sorted(self.world.objects[Kind.SPOKELIMIT])
        self.world.delete(Kind.SPOKELIMIT, there[index % len(there)])

    @rule(namespace=NAMESPACES, reason=st.sampled_from([None, "planted"]))
    def somebody_pauses_or_resumes_a_namespace(self, namespace: str, reason: str | None) -> None:
        self.world.put_namespace(namespace, reason)

    def _dispatch(self, count: int, namespace: str = NAMESPACE, **spec: Any) -> None:
        for _ in range(min(count, MOST - self.made)):
            self.made += 1
            usual = {**self.usual, "podTemplate": TEMPLATES[namespace]}
            self.world.put_spokejob(f"job-{self.made}", namespace, **usual | spec)

    @precondition(lambda self: self.world.spokejobs())
    @rule(index=st.integers(0, MOST), suspend=st.booleans())
    def somebody_suspends_or_resumes(self, index: int, suspend: bool) -> None:
        self.world.change(Kind.SPOKEJOB, self._some(index), {"suspend": suspend}, under="spec")

    @precondition(lambda self: self.world.spokejobs())
    @rule(index=st.integers(0, MOST), priority=st.sampled_from([-1, 0, 5, 9]))
    def somebody_changes_a_priority(self, index: int, priority: int) -> None:
        self.world.change(Kind.SPOKEJOB, self._some(index), {"priority": priority}, under="spec")

    @precondition(lambda self: self.world.spokejobs())
    @rule(index=st.integers(0, MOST))
    def somebody_cancels(self, index: int) -> None:
        self.world.change(Kind.SPOKEJOB, self._some(index), {"cancel": True}, under="spec")

    @precondition(lambda self: self.world.spokejobs())
    @rule(index=st.integers(0, MOST))
    def somebody_deletes_a_spokejob(self, index: int) -> None:
        name = self._some(index)
        if any(item["metadata"]["name"] == name for item in self.world.occupied()):
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
        """Those that the operator knows. What ran when they were lowered goes on, and counts."""
        limits, occupied = self.sim.pacer.limits, list(self.world.occupied())
        groups: defaultdict[tuple[Any, ...], list[Object]] = defaultdict(list)
        for item in occupied:
            namespace, spec = item["metadata"]["namespace"], item["spec"]
            groups["all", limits.running].append(item)
            rules, subject = limits.of(namespace), subject_of(spec)
            for bound, name in (
                (rules.unfinished, "the oldest"),
                *((bound, (scope, name)) for (_, scope, name), bound in applying(rules.bounds, subject)),
            ):
                groups[namespace, name, bound.value if bound else None].append(item)
        for group, items in groups.items():
            most = group[-1]
            assert most is None or len(items) <= max(most, sum(map(self._kept, items))), (group, items)

    @invariant()
    def nothing_starts_that_is_paused(self) -> None:
        for item in self.world.occupied():
            rules = self.sim.pacer.limits.of(item["metadata"]["namespace"])
            pause = rules.pause_of(subject_of(item["spec"]))
            assert pause is None or self._kept(item), (pause, item)

    @invariant()
    def rates_are_kept_whatever_process_leads(self) -> None:
        assert self.sim.starts.too_many() == []

    def _kept(self, item: Object) -> bool:
        """Whether it had its place before the limits were replaced last."""
        return Key(item["metadata"]["namespace"], item["metadata"]["name"]) in self.sim.pacer.kept

    @invariant()
    def a_queue_has_one_that_locks_it(self) -> None:
        holders = Counter(
            (item["metadata"]["namespace"], item["spec"]["queue"])
            for item in self.world.occupied()
            if item["spec"]["locksQueue"]
        )
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
        for name in list(world.objects[Kind.SPOKELIMIT]):
            world.delete(Kind.SPOKELIMIT, name)
        for name in world.objects[Kind.NAMESPACE]:
            world.put_namespace(name, None)
        for turn in range(200):
            if turn % 20 == 0:  # an old event that comes after one counts until the next, if its successor was lost
                sim.compare(everything=True)
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
        self.nothing_starts_that_is_paused()
        self.rates_are_kept_whatever_process_leads()
        self.a_queue_has_one_that_locks_it()
        self.sim.cluster(0)

    def _some(self, index: int) -> str:
        there = self.world.spokejobs()
        return str(there[index % len(there)]["metadata"]["name"])


class Scarce(Pacing):
    """Nodes have room for few pods, which come and go, quotas change, and the database is away at times."""

    max_pending = 3
    room = 2
    usual: ClassVar[Object] = {**Pacing.usual, "startTimeoutSeconds": START_TIMEOUT}
    calm = 0

    @precondition(lambda self: hasattr(self, "world"))
    @rule(room=st.integers(0, 4))
    def nodes_come_or_go(self, room: int) -> None:
        self.world.room = room

    @precondition(lambda self: hasattr(self, "world"))
    @rule(pods=st.sampled_from([None, 0, 1, 3]), jobs=st.sampled_from([None, None, 0, 2]))
    def somebody_changes_the_quotas(self, pods: int | None, jobs: int | None) -> None:
        self.world.quota, self.world.job_quota = pods, jobs

    @rule()
    def the_scheduler_decides(self) -> None:
        self.world.scheduler()

    @precondition(lambda self: self.world.pods)
    @rule(index=st.integers(0, MOST), count=st.integers(1, 4))
    def pods_do_not_reach_the_database(self, index: int, count: int) -> None:
        message = TerminationMessage(cause=Cause.DATABASE_UNREACHABLE).encode().decode()
        for number in range(count):
            pod = self.world.pods[(index + number) % len(self.world.pods)]
            state = pod["status"].get("containerStatuses", [{}])[0].get("state", {})
            if "running" in state:
                self.world._end_pod(pod, ExitCode.FAILED, "", message)

    @precondition(lambda self: self.world.pods)
    @rule(count=st.integers(1, 4))
    def images_are_missing(self, count: int) -> None:
        """Until the kubelet does its next step."""
        waiting = [pod for pod in self.world.live_pods() if pod["status"]["phase"] == "Pending"]
        for pod in [pod for pod in waiting if pod["spec"].get("nodeName")][:count]:
            self.world._pod_state(pod, "Pending", {"waiting": {"reason": "ErrImagePull", "message": "not found"}})

    @rule(seconds=st.sampled_from([0.5, 2, 15]))
    def time_passes(self, seconds: float) -> None:
        """Little of it while events are lost or nodes do nothing: the start timeout counts that."""
        self.sim.compare(everything=True)
        self.sim.cluster()
        self.world.now += timedelta(seconds=seconds)

    @rule(minutes=st.sampled_from([2, 20]))
    def much_time_passes(self, minutes: int) -> None:
        for _ in range(3):
            self.sim.compare(everything=True)
            self.sim.cluster()
        self.sim.pass_time(60 * minutes)

    @invariant()
    def nobody_ends_for_lack_of_room(self) -> None:
        causes = {item.get("status", {}).get("cause") for item in self.world.spokejobs()}
        assert Cause.START_TIMEOUT not in causes

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.room = self.world.room or 1
            self.world.quota = None if self.world.quota is None else 3
            self.world.job_quota = None
        super().teardown()

    def _calmly(self) -> None:
        super()._calmly()
        self.nobody_ends_for_lack_of_room()
        self.calm += 1
        # Once it has seen everything: one pod more for each PodTemplate none of whose pods wait.
        assert self.calm < 5 or self.world.without_node() <= self.max_pending + len(TEMPLATES) - 1


TestPacing = Pacing.TestCase
TestPacing.settings = settings(
    max_examples=45, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


TestScarce = Scarce.TestCase
TestScarce.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_more() -> None:
    many = settings(
        max_examples=1000, stateful_step_count=80, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(Pacing, settings=many)
    run_state_machine_as_test(Scarce, settings=many)
