"""What the node did: it stopped."""

from __future__ import annotations

import time

import pytest
from tests.exclusive import exclusive
from tests.integration.operator.causes.moments import of_moment
from tests.integration.operator.causes.scenes import Played, Scene, it_ends_promptly
from tests.integration.operator.causes.stage import Stage
from tests.integration.operator.conftest import NODE_TO_STOP, run_or_fail
from tests.waiting import patient

pytestmark = pytest.mark.timeout(420)


def stop_node(stage: Stage, name: str) -> None:
    """The node is back when this ends: other tests may need it."""
    pod = stage.running(name)
    assert pod.body["spec"]["nodeName"] == NODE_TO_STOP
    with exclusive(NODE_TO_STOP):
        try:
            run_or_fail(["docker", "stop", "--time", "1", NODE_TO_STOP], stage.cluster.env)
            stage.moments[name] = time.time()
            stage.final(name)
        finally:
            run_or_fail(["docker", "start", NODE_TO_STOP], stage.cluster.env)
            stage.cluster.kubectl(
                "wait", "--for=condition=Ready", f"node/{NODE_TO_STOP}", f"--timeout={patient(300):.0f}s"
            )


SCENES = {
    "node-stopped": Scene(
        "NodeLost", of_moment, act=stop_node, within=120,
        pod={"nodeSelector": {"kubernetes.io/hostname": NODE_TO_STOP},
             "tolerations": [{"key": "spoke.test/stops", "operator": "Exists"}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("title", "scene"), SCENES.items(), ids=SCENES)
def test_it_ends_promptly_with_its_cause_and_what_to_do(
    stage: Stage, played: dict[str, Played], title: str, scene: Scene
) -> None:
    it_ends_promptly(stage, played[title], title, scene)
