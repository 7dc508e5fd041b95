"""Stories of several acts. They come last: the others, which are measured, run at once, and one of these stops all."""

from __future__ import annotations

import time

import pytest
from tests.integration.operator.causes.stage import Stage, condition, outcome
from tests.integration.operator.conftest import GROUP, PLURAL, VERSION
from tests.integration.operator.sightings import JOBS, PODS, SPOKEJOBS
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(420)


def test_more_memory_after_one_that_ran_out_of_it(stage: Stage) -> None:
    stage.cluster.template("grows", "eat-60", container={"resources": {"limits": {"memory": "40Mi", "cpu": "50m"}}})
    name = stage.cluster.submit("grows", retry={"backoffSeconds": 0.5, "memoryFactor": 2.5})
    end = stage.final(name)
    assert [item["cause"] for item in end.status["attempts"]] == ["OutOfMemory", ""]
    assert end.status["charged"] == {"oom": 1}
    second = stage.pod(name, 2).body["spec"]["containers"][0]["resources"]
    assert second["limits"]["memory"] == second["requests"]["memory"] == "100Mi"


@pytest.mark.long
def test_kueue_s_moves(stage: Stage) -> None:
    """Made by hand, on the real Job controller: it holds a Job back, lets it start, and takes its place away."""
    template = {"jobs.spoke.dev/template": "true", "kueue.x-k8s.io/queue-name": "team-a"}
    stage.cluster.template("queued", "wait,0", labels=template)
    timeout = 40  # a pod takes as long to start while other tests run
    name = stage.cluster.submit("queued", startTimeoutSeconds=timeout)

    def let_start(attempt: int, starts: bool) -> None:
        change = {"spec": {"suspend": not starts}}
        stage.cluster.batch.patch_namespaced_job(f"{name}-{attempt}", stage.cluster.namespace, change)

    queued = stage.named(name, "QueuedByKueue")
    job = stage.seen.until(name, "its Job", lambda item: item.kind == JOBS)
    assert job.body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    eventually(lambda: time.time() > queued.at + timeout + 1, "longer than the start timeout")
    let_start(1, True)
    stage.running(name)
    let_start(1, False)
    preempted = stage.seen.until(
        name,
        "the next attempt in Kueue's queue",
        lambda item: (
            item.kind == SPOKEJOBS and item.status.get("attempt") == 2 and item.status["cause"] == "QueuedByKueue"
        ),
    )
    assert preempted.status["attempts"][0]["cause"] == "Preempted"
    assert preempted.status.get("charged", {}) == {}
    let_start(2, True)
    assert outcome(stage.final(name)) == "Succeeded"


def test_nothing_is_left_of_a_spokejob_that_is_deleted(stage: Stage) -> None:
    stage.cluster.template("deleted", "wait")
    name = stage.cluster.submit("deleted")
    pod = stage.running(name).name
    stage.cluster.custom.delete_namespaced_custom_object(GROUP, VERSION, stage.cluster.namespace, PLURAL, name)
    stage.seen.until(name, "its Job's end", lambda item: item.kind == JOBS and item.gone)
    stage.seen.until(name, "its pod's end", lambda item: item.kind == PODS and item.name == pod and item.gone)
    made = {item.name for item in stage.seen.of(name) if item.kind == JOBS}
    assert made == {f"{name}-1"}, "no further attempt"


def test_a_quota_of_jobs_is_named_and_once_raised_it_starts(stage: Stage) -> None:
    """Here the API server refuses the Job itself. (The last test: no other of this namespace's could start.)"""
    quota = {"hard": {"count/jobs.batch": "0"}}
    stage.cluster.core.create_namespaced_resource_quota(
        stage.cluster.namespace, {"metadata": {"name": "jobs"}, "spec": quota}
    )
    read = stage.cluster.core.read_namespaced_resource_quota
    eventually(lambda: read("jobs", stage.cluster.namespace).status.hard, "the quota counts")
    stage.cluster.template("counted", "0")
    name = stage.cluster.submit("counted")
    held = stage.named(name, "QuotaExceeded")
    words = "quota jobs: the quota of count/jobs.batch is 0, and the Job requests 1"
    assert condition(held, "Admitted")["message"] == words
    stage.cluster.core.delete_namespaced_resource_quota("jobs", stage.cluster.namespace)
    assert outcome(stage.final(name)) == "Succeeded"
