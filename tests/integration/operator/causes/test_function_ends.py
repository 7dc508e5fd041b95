"""What the function did itself: it ended badly, or took more than it was given."""

from __future__ import annotations

import pytest
from tests.integration.operator.causes.moments import START_TIMEOUT_SECONDS, container_ended, ran_too_long
from tests.integration.operator.causes.scenes import Played, Scene, it_ends_promptly
from tests.integration.operator.causes.stage import Stage

pytestmark = pytest.mark.timeout(420)


SCENES = {
    "exception": Scene("JobError", container_ended, "10", exit_code=10),
    "exit-code": Scene("JobExited", container_ended, "3", exit_code=3),
    "out-of-memory": Scene(
        "OutOfMemory", container_ended, "eat-200", container={"resources": {"limits": {"memory": "40Mi", "cpu": "50m"}}}
    ),
    "ran-too-long": Scene(
        "Timeout", ran_too_long, spec={"timeoutSeconds": 2, "startTimeoutSeconds": START_TIMEOUT_SECONDS}
    ),
}  # fmt: skip


@pytest.mark.parametrize(("title", "scene"), SCENES.items(), ids=SCENES)
def test_it_ends_promptly_with_its_cause_and_what_to_do(
    stage: Stage, played: dict[str, Played], title: str, scene: Scene
) -> None:
    it_ends_promptly(stage, played[title], title, scene)
