"""Any interleaving of events, losses, faults and new leaders hands an attempt to one pod at most, and ends each job."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from tests.unit.operator.fake_client import Crash, Fault
from tests.unit.operator.fake_standby import FakeStandby
from tests.unit.operator.machine import OperatorMachine
from tests.unit.operator.simulation import Simulation, run
from tests.unit.operator.world import NAME, NAMESPACE, World, ended

from spoke_jobs.shared.api_errors import ApiError
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.shell.api.operator_client import Kind

NAMES = ("a", "b", "c")
SPEC = {"lane": "standby", "retry": {"backoffSeconds": 1, "jitter": 0}, "startTimeoutSeconds": 600}


class Standby(OperatorMachine):
    """An operator with standby pods."""

    standby: FakeStandby

    @initialize(
        bounds=st.sampled_from(["0-2", "1-3", "3-3"]),
        names=st.sets(st.sampled_from(NAMES), min_size=1),
        max_pending=st.sampled_from([None, 1]),
    )
    def begin(self, bounds: str, names: set[str], max_pending: int | None) -> None:
        self.annotations = {"jobs.spoke.dev/standby": bounds}
        self.world = World()
        self.world.delete(Kind.SPOKEJOB, NAME)
        self.world.put_template(annotations=self.annotations)
        self.standby = FakeStandby(self.world)
        self.sim = Simulation(self.world, standby=self.standby, max_pending=max_pending)
        self.former = self.sim.controller
        for _ in range(2):
            self.all_goes_on(None)
        self.jobs_come(names)

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1))
    def jobs_come(self, names: set[str]) -> None:
        for name in sorted(names):
            self._comes(name)

    def _comes(self, name: str) -> None:
        if name not in self.world.objects[Kind.SPOKEJOB]:
            number = NAMES.index(name) + 1
            uid = f"0a1b2c3d-0000-4000-8000-00000000000{number}"
            self.world.put_spokejob(name, **SPEC, uid=uid, requestId=number)  # type: ignore[arg-type]

    @rule(code=st.sampled_from([None, 0, 10]))
    def all_goes_on(self, code: int | None) -> None:
        self.sim.pass_time(3)
        self.sim.cluster()
        self.sim.cluster(code)

    @rule(code=st.sampled_from([None, 0, 10]))
    def the_kubelet_steps(self, code: int | None) -> None:
        self.world.scheduler()
        self.world.kubelet(code)

    @rule(silent=st.booleans())
    def pods_stop_to_answer_or_answer_again(self, silent: bool) -> None:
        self.standby.silent = silent

    @rule(same_key=st.booleans())
    def another_leader_follows(self, same_key: bool) -> None:
        self.former = self.sim.controller
        if not same_key:
            self.standby.key = self.standby.key[:-1] + bytes([self.standby.key[-1] ^ 1])
        self.sim.restart()

    @rule(keeps=st.booleans())
    def one_with_another_setting_follows(self, keeps: bool) -> None:
        self.former = self.sim.controller
        self.standby.keeps = keeps
        self.sim.restart()

    @rule(name=st.sampled_from(NAMES))
    def a_write_of_the_former_leader_arrives_late(self, name: str) -> None:
        """At most one: it looks whether it still leads before each."""
        self.sim.client.faults = [None, Fault.CRASH_BEFORE]
        with suppress(ApiError, Crash):
            run(self.former.process(Key(NAMESPACE, name)))
        self.sim.client.faults = []

    @precondition(lambda self: self.world.pods)
    @rule(index=st.integers(0, 10), graceful=st.booleans())
    def somebody_deletes_a_pod(self, index: int, graceful: bool) -> None:
        pods = self.world.pods
        self.world.delete(Kind.POD, pods[index % len(pods)]["metadata"]["name"], graceful=graceful)

    @rule(image=st.sampled_from(["app:1", "app:2"]))
    def the_template_changes(self, image: str) -> None:
        self.world.put_template(image=image, annotations=self.annotations)

    @rule(name=st.sampled_from(NAMES))
    def somebody_cancels(self, name: str) -> None:
        if name in self.world.objects[Kind.SPOKEJOB]:
            self.world.change(Kind.SPOKEJOB, name, {"cancel": True}, under="spec")

    @invariant()
    def an_attempt_is_told_to_one_pod(self) -> None:
        told = [
            (item["SPOKE_REQUEST_UID"], item["SPOKE_RUN"], item["SPOKE_ATTEMPT"])
            for item in self.standby.taken.values()
        ]
        assert len(told) == len(set(told))

    @invariant()
    def a_pod_is_told_only_what_its_job_is_for(self) -> None:
        owners = {job["metadata"]["uid"]: job["metadata"]["labels"] for job in self.world.jobs}
        for pod in self.world.pods:
            if variables := self.standby.taken.get(pod["metadata"]["uid"]):
                labels = owners.get(pod["metadata"]["ownerReferences"][0]["uid"])
                if labels is not None:
                    assert labels["jobs.spoke.dev/request-id"] == variables["SPOKE_REQUEST_ID"]
                    assert labels["jobs.spoke.dev/attempt"] == variables["SPOKE_ATTEMPT"]

    @invariant()
    def no_more_wait_than_the_most(self) -> None:
        """Those that end, or that their Jobs leave behind, aside."""
        jobs = {job["metadata"]["uid"] for job in self.world.live_jobs()}
        waits = [
            pod
            for pod in self.world.live_pods()
            if self.standby.is_idle(pod)
            and pod["metadata"]["ownerReferences"][0]["uid"] in jobs
            and pod["metadata"]["labels"]["jobs.spoke.dev/spokejob"] == ""
            and "deletionTimestamp" not in pod["metadata"]
        ]
        assert len(waits) <= 3 + len(NAMES)

    def teardown(self) -> None:
        """In the end every job ends once, and as many standby pods wait as are wanted."""
        if not hasattr(self, "sim"):
            return
        self.standby.silent, self.standby.keeps = False, True
        self.sim.restart()
        self.sim.compare(everything=True)
        for _ in range(12):
            self.sim.pass_time(20)
            self.sim.cluster(0)
        spokejobs = self.world.objects[Kind.SPOKEJOB]
        for name, body in spokejobs.items():
            status = body.get("status", {})
            cancelled = body["spec"].get("cancel")
            assert status["outcome"] == "Succeeded" or cancelled or "error" in status["charged"], (name, status)
            numbers = [item["number"] for item in status.get("attempts", [])]
            assert numbers == sorted(set(numbers))
        self.sim.pass_time(1500)
        for _ in range(4):
            self.sim.pass_time(2)
            self.sim.cluster()
        minimum = int(self.annotations["jobs.spoke.dev/standby"].partition("-")[0])
        assert len([pod for pod in self.world.live_pods() if not ended(pod)]) == minimum


TestStandby = Standby.TestCase
TestStandby.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
