"""Any interleaving of events, losses, faults and restarts comes to an end, with one Job per attempt."""

from __future__ import annotations

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
from tests.unit.operator.world import NAME, TEMPLATE, World, ended

from spoke_jobs_operator.core.objects.api_objects import LABEL_OWNER
from spoke_jobs_operator.shell.api.operator_client import Kind

EXIT_CODES = st.sampled_from([None, 0, 1, 10, 11, 12, 13, 14, 137])
FINAL = ("Succeeded", "Failed")


class Operator(OperatorMachine):
    """The operator among people and machines that do as they like."""

    @initialize(timeout=st.sampled_from([None, 20]), held=st.booleans(), news=NEWS)
    def begin(self, timeout: int | None, held: bool, news: tuple[float, ...]) -> None:
        spec: dict[str, Any] = {"retry": {"backoffSeconds": 1, "jitter": 0}, "startTimeoutSeconds": 40}
        if timeout:
            spec["timeoutSeconds"] = timeout
        self.world = World(**spec)
        self.sim = Simulation(self.world, news=news)
        self.unrecorded_deletions: set[str] = set()
        self.attempts_seen = 0
        self.final_without_ledger: str | None = None

    # Long stretches in which all goes well, to get somewhere

    @rule(code=EXIT_CODES)
    def all_goes_on(self, code: int | None) -> None:
        self.sim.pass_time(3)
        self.sim.cluster()
        self.sim.cluster(code)

    # The cluster

    @rule(code=EXIT_CODES)
    def the_kubelet_steps(self, code: int | None) -> None:
        self.world.kubelet(code)

    @rule()
    def an_image_is_missing(self) -> None:
        self.world.container_waits("ErrImagePull")

    @rule(silent=st.booleans())
    def nodes_fall_silent_or_come_back(self, silent: bool) -> None:
        self.world.silent_nodes = silent

    @rule(sidecars=st.booleans())
    def pods_have_sidecars_or_not(self, sidecars: bool) -> None:
        self.world.sidecars = sidecars

    @rule()
    def the_scheduler_steps(self) -> None:
        self.world.scheduler()

    @rule(missing=st.booleans())
    def a_volume_claim_is_missing_or_there(self, missing: bool) -> None:
        self.world.claim_is_missing = missing

    @rule(init=st.sampled_from([None, "runs", 0, 3]))
    def pods_have_an_init_container_that_runs_or_ends(self, init: str | int | None) -> None:
        self.world.init = init

    # People

    @rule(gated=st.booleans())
    def somebody_gates_pods_or_removes_the_gates(self, gated: bool) -> None:
        self.world.gated = gated

    @precondition(lambda self: self.world.pods)
    @rule(graceful=st.booleans())
    def somebody_deletes_a_pod(self, graceful: bool) -> None:
        self.world.delete(Kind.POD, self.world.pods[-1]["metadata"]["name"], graceful=graceful)

    @precondition(lambda self: self.world.jobs)
    @rule()
    def somebody_deletes_a_job(self) -> None:
        name = self.world.jobs[-1]["metadata"]["name"]
        if name not in {item["job"] for item in self.world.status.get("attempts", ())}:
            self.unrecorded_deletions.add(name)
        self.world.delete(Kind.JOB, name)

    @rule()
    def somebody_cancels(self) -> None:
        if NAME in self.world.objects[Kind.SPOKEJOB]:
            self.world.change(Kind.SPOKEJOB, NAME, {"cancel": True}, under="spec")

    @rule(image=st.sampled_from([None, "app:1", "app:2"]))
    def the_template_goes_or_comes_or_changes(self, image: str | None) -> None:
        if image:
            self.world.put_template(image=image)
        else:
            self.world.delete(Kind.TEMPLATE, TEMPLATE)

    @rule(suspend=st.booleans())
    def somebody_suspends_or_resumes(self, suspend: bool) -> None:
        if NAME in self.world.objects[Kind.SPOKEJOB]:
            self.world.change(Kind.SPOKEJOB, NAME, {"suspend": suspend}, under="spec")

    @rule(refusal=st.sampled_from([None, (403, "quota"), (422, "invalid"), (500, "oops")]))
    def the_api_server_refuses_jobs_or_not(self, refusal: tuple[int, str] | None) -> None:
        self.world.refuse_jobs = refusal

    @rule(percent=st.integers(0, 100))
    def sync_mirrors_progress(self, percent: int) -> None:
        if NAME in self.world.objects[Kind.SPOKEJOB]:
            self.world.change(Kind.SPOKEJOB, NAME, {"progress": {"percent": percent}}, under="status")

    @precondition(lambda self: any(pod["status"]["phase"] == "Succeeded" for pod in self.world.pods))
    @rule()
    def sync_mirrors_success(self) -> None:
        self._sync_mirrors("Succeeded")

    @rule()
    def sync_mirrors_failure(self) -> None:
        """Somebody cancelled the row, or its last attempt recorded that it failed for good."""
        self._sync_mirrors("Failed")

    def _sync_mirrors(self, state: str) -> None:
        spokejob = self.world.objects[Kind.SPOKEJOB].get(NAME)
        if spokejob and not spokejob.get("status", {}).get("ledger"):  # a final row stays as it ended
            self.world.set_ledger(state)

    # What holds at every moment

    @invariant()
    def one_job_for_each_attempt(self) -> None:
        names = [name for name, _ in self.world.created]
        twice = {name for name in names if names.count(name) > 1}
        assert twice <= self.unrecorded_deletions

    @invariant()
    def one_live_job_at_a_time(self) -> None:
        assert len(self.world.running_jobs()) <= 1

    @invariant()
    def attempts_only_grow_and_ends_stay(self) -> None:
        status = self.world.objects[Kind.SPOKEJOB].get(NAME, {}).get("status", {})
        assert status.get("attempt", 0) >= self.attempts_seen or not status
        self.attempts_seen = max(self.attempts_seen, status.get("attempt", 0))
        outcome = status.get("outcome")
        if self.final_without_ledger and outcome and not status.get("ledger"):
            assert outcome == self.final_without_ledger
        if outcome in FINAL:
            self.final_without_ledger = outcome

    @invariant()
    def charges_are_the_failed_attempts(self) -> None:
        status = self.world.objects[Kind.SPOKEJOB].get(NAME, {}).get("status", {})
        if status.get("attempt", 0) > 10 or status.get("ledger"):
            return
        uncharged = ("", "QueueHeld", "TemplateChanged")
        failed = [a for a in status.get("attempts", ()) if a.get("finishedAt") and a.get("cause") not in uncharged]
        counted = (*status.get("charged", {}).values(), *status.get("notCharged", {}).values())
        assert sum(counted) == len(failed)

    @invariant()
    def a_pod_that_succeeded_is_not_forgotten(self) -> None:
        status = self.world.objects[Kind.SPOKEJOB].get(NAME, {}).get("status", {})
        done = [
            p for p in self.world.pods if p["status"]["phase"] == "Succeeded" and LABEL_OWNER in p["metadata"]["labels"]
        ]
        if done and status.get("outcome") == "Succeeded":
            assert all(ended(pod) for pod in done)

    # Whatever happened, once things calm down

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world, sim = self.world, self.sim
        if NAME not in world.objects[Kind.SPOKEJOB]:
            return
        world.refuse_jobs, world.silent_nodes, world.sidecars = None, False, False
        world.gated, world.claim_is_missing, world.init = False, False, None
        world.put_template()
        world.change(Kind.SPOKEJOB, NAME, {"suspend": False}, under="spec")
        sim.compare(everything=True)
        for _ in range(60):
            sim.pass_time(5)
            sim.cluster()
            sim.cluster(0)
            if world.status.get("outcome") in FINAL:
                break
        assert world.status.get("outcome") in FINAL, world.status
        for _ in range(40):
            sim.pass_time(5)
            sim.cluster()
        assert world.jobs == [], "retention is over"
        assert world.live_pods() == []
        world.writes.clear()
        sim.compare(everything=True)
        sim.settle()
        sim.restart()
        sim.settle()
        assert world.writes == [], "an unchanged world yields no writes"


TestOperator = Operator.TestCase
TestOperator.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_more_interleavings() -> None:
    many = settings(
        max_examples=1000, stateful_step_count=80, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(Operator, settings=many)
