"""What the cluster lacked, for good: an image, a Secret, a template, room, a quota."""

from __future__ import annotations

import pytest
from tests.integration.operator.causes.lacking import (
    NO_IMAGE,
    PRIVILEGED,
    TOO_MUCH_CPU,
    config_map_variable,
    secret_variable,
    secret_volume,
)
from tests.integration.operator.causes.moments import (
    START_TIMEOUT_SECONDS,
    blocked_too_long,
    container_ended,
    container_waits,
    started_too_late,
)
from tests.integration.operator.causes.scenes import Played, Scene, it_ends_promptly
from tests.integration.operator.causes.stage import Stage

from spoke_jobs.contract.wait_reasons import WaitReason

pytestmark = pytest.mark.timeout(420)


NEVER_STARTS = {"startTimeoutSeconds": START_TIMEOUT_SECONDS}
NO_VOLUME, NO_MOUNT = secret_volume("no-secret")

SCENES = {
    "no-image": Scene("ImageUnavailable", started_too_late, image=NO_IMAGE, spec=NEVER_STARTS, says=(NO_IMAGE,)),
    "bad-image-name": Scene("ImageUnavailable", container_waits("InvalidImageName"), image="Not/An Image:1",
                            says=("Not/An Image:1",)),
    "no-secret": Scene("ContainerConfigError", started_too_late, container=secret_variable("no-secret"),
                       spec=NEVER_STARTS, says=('secret "no-secret" not found',)),
    "no-secret-volume": Scene("ContainerConfigError", started_too_late, pod=NO_VOLUME, container=NO_MOUNT,
                              spec=NEVER_STARTS, says=('secret "no-secret" not found',)),
    "no-config-map": Scene("ContainerConfigError", started_too_late, container=config_map_variable("no-config"),
                           spec=NEVER_STARTS, says=('configmap "no-config" not found',)),
    "no-service-account": Scene("PodRejected", started_too_late, pod={"serviceAccountName": "no-account"},
                                spec=NEVER_STARTS, says=('serviceaccount "no-account" not found',)),
    "over-quota": Scene("PodRejected", started_too_late, container=TOO_MUCH_CPU, spec=NEVER_STARTS,
                        says=("exceeded quota: cpu", "requested: requests.cpu=2500m")),
    "not-admitted": Scene("PodRejected", started_too_late, container=PRIVILEGED, spec=NEVER_STARTS,
                          says=('violates PodSecurity "restricted:latest"',)),
    "no-room": Scene("StartTimeout", started_too_late, pod={"nodeSelector": {"spoke.test/no": "where"}},
                     spec=NEVER_STARTS, says=("0/3 nodes are available",),
                     waited_for=WaitReason.NO_NODE_MATCHES),
    "no-template": Scene("TemplateMissing", blocked_too_long, template=False, spec=NEVER_STARTS,
                         says=("no PodTemplate 'no-template'",)),
    "no-label": Scene("TemplateNotAllowed", blocked_too_long, labels={}, spec=NEVER_STARTS, says=("'no-label'",)),
    "no-container": Scene("TemplateInvalid", blocked_too_long, container={"name": "web"}, spec=NEVER_STARTS,
                          says=("no container named 'job'",)),
    "refused-by-the-api-server": Scene("TemplateInvalid", blocked_too_long, spec=NEVER_STARTS | {"resources": {
                                       "requests": {"cpu": "20m"}, "limits": {"cpu": "10m"}}}, says=("cpu limit",)),
    "no-entrypoint": Scene("ContainerCannotRun", container_ended, image="bare", pod={"securityContext": {
                           "runAsUser": 65532}}, says=("spoke-jobs",)),
}  # fmt: skip


@pytest.mark.parametrize(("title", "scene"), SCENES.items(), ids=SCENES)
def test_it_ends_promptly_with_its_cause_and_what_to_do(
    stage: Stage, played: dict[str, Played], title: str, scene: Scene
) -> None:
    it_ends_promptly(stage, played[title], title, scene)
