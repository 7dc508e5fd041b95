"""Pods as people build them: init containers, sidecars of both kinds, volume claims, scheduling gates."""

from __future__ import annotations

import pytest
from tests.integration.operator.causes.moments import START_TIMEOUT_SECONDS, pod_failed, started_too_late
from tests.integration.operator.causes.scenes import Played, Scene, it_ends_promptly
from tests.integration.operator.causes.stage import Stage, outcome
from tests.integration.operator.conftest import Object
from tests.integration.operator.sightings import JOBS, PODS, Sighting

from spoke_jobs.contract.wait_reasons import WaitReason

pytestmark = pytest.mark.timeout(420)

NEVER_STARTS = {"startTimeoutSeconds": START_TIMEOUT_SECONDS}
ENDLESS = "echo begun; sleep 100000"


def container(name: str, script: str, **more: object) -> Object:
    """A container with the image of the stand-in."""
    return {"name": name, "command": ["sh", "-c", script]} | more


def claim(name: str) -> Object:
    return {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]}


SCENES = {
    "init-exit-3": Scene("InitFailed", pod_failed, pod={"initContainers": [
                         container("migrate", "echo no database; exit 3")]},
                         says=("container 'migrate' exited with 3",), exit_code=3),
    "no-claim": Scene("VolumeClaimMissing", started_too_late, pod=claim("no-claim"), spec=NEVER_STARTS,
                      says=('persistentvolumeclaim "no-claim" not found',)),
    "gated": Scene("StartTimeout", started_too_late, pod={"schedulingGates": [{"name": "spoke.test/gate"}]},
                   spec=NEVER_STARTS, says=("SchedulingGated: scheduling gates: spoke.test/gate",),
                   waited_for=WaitReason.SCHEDULING_GATED),
    "sidecar-crashes": Scene("InitFailed", started_too_late, pod={"initContainers": [
                             container("proxy", "exit 4", restartPolicy="Always",
                                       startupProbe={"exec": {"command": ["true"]}})]},
                             spec=NEVER_STARTS, says=("container 'proxy' exited with 4",)),
}  # fmt: skip


@pytest.mark.parametrize(("title", "scene"), SCENES.items(), ids=SCENES)
def test_it_ends_promptly_with_its_cause_and_what_to_do(
    stage: Stage, played: dict[str, Played], title: str, scene: Scene
) -> None:
    it_ends_promptly(stage, played[title], title, scene)


def test_the_attempt_s_record_says_what_kubernetes_said(stage: Stage, played: dict[str, Played]) -> None:
    name = played["init-exit-3"].name
    (attempt,) = stage.final(name).status["attempts"]
    assert attempt["container"] == "migrate"
    assert attempt["message"] == "container 'migrate' exited with 3"
    logs = stage.cluster.kubectl("logs", attempt["pod"], "--container", "migrate")
    assert "no database" in logs, "its pod is there to be looked at"


def test_an_endless_classic_sidecar_is_stopped_and_delays_the_next_attempt_little(stage: Stage) -> None:
    stage.cluster.template("classic", "1,0", pod={"beside": [container("shipper", ENDLESS)]})
    name = stage.cluster.submit("classic")
    end = stage.final(name, 120)
    assert outcome(end) == "Succeeded"
    assert [item["cause"] for item in end.status["attempts"]] == ["JobExited", ""]
    stage.seen.until(name, "the first Job's end", lambda item: item.kind == JOBS and item.gone, 60)


def test_an_endless_native_sidecar_ends_with_its_job(stage: Stage) -> None:
    sidecar = container("proxy", ENDLESS, restartPolicy="Always")
    stage.cluster.template("native", "0", pod={"initContainers": [sidecar]})
    name = stage.cluster.submit("native")
    assert outcome(stage.final(name)) == "Succeeded"

    def succeeded(item: Sighting) -> bool:
        return item.kind == PODS and item.status.get("phase") == "Succeeded"

    stage.seen.until(name, "its pod's end: the kubelet stops the sidecar", succeeded, 60)
