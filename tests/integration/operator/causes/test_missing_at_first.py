"""What the cluster lacked at first: it is named, and once it is mended the job succeeds."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.integration.operator.causes.lacking import (
    MUCH_CPU,
    NO_IMAGE,
    PRIVILEGED,
    secret_variable,
    secret_volume,
)
from tests.integration.operator.causes.moments import container_waits, event, submitted, unscheduled
from tests.integration.operator.causes.scenes import Act, Ailment, Played, it_is_named_and_heals
from tests.integration.operator.causes.stage import Stage
from tests.integration.operator.conftest import NODE, Object

pytestmark = pytest.mark.timeout(420)


def make_secret(secret: str) -> Act:
    def mend(stage: Stage, _name: str) -> None:
        body = {"metadata": {"name": secret}, "stringData": {"key": "value"}}
        stage.cluster.core.create_namespaced_secret(stage.cluster.namespace, body)

    return mend


def make_service_account(stage: Stage, _name: str) -> None:
    stage.cluster.core.create_namespaced_service_account(
        stage.cluster.namespace, {"metadata": {"name": "late-account"}}
    )


def bring_image(stage: Stage, _name: str) -> None:
    """As a registry would that has it by now; the kubelet finds it on the node."""
    stage.on_node(
        *("ctr", "--namespace", "k8s.io", "images", "tag"),
        *(f"docker.io/library/{stage.cluster.image}", stage.late_image),
    )


def raise_quota(stage: Stage, _name: str) -> None:
    change = {"spec": {"hard": {"requests.cpu": "2"}}}
    stage.cluster.core.patch_namespaced_resource_quota("cpu", stage.cluster.namespace, change)


def make_room(stage: Stage, _name: str) -> None:
    stage.cluster.core.patch_node(NODE, {"metadata": {"labels": {stage.room: "true"}}})


def make_template(stage: Stage, _name: str) -> None:
    stage.cluster.template("late-template", "0")


def label_template(stage: Stage, _name: str) -> None:
    stage.cluster.kubectl("label", "podtemplate", "late-label", "jobs.spoke.dev/template=true")


def change_template(template: str, change: Callable[[Object, Stage], None]) -> Act:
    """As `helm upgrade` does with a release that was wrong."""

    def mend(stage: Stage, _name: str) -> None:
        body = json.loads(stage.cluster.kubectl("get", "podtemplate", template, "--output=json"))
        change(body["template"]["spec"]["containers"][0], stage)
        stage.cluster.kubectl("replace", "--filename=-", stdin=json.dumps(body))

    return mend


def no_longer_privileged(container: Object, _stage: Stage) -> None:
    del container["securityContext"]


def image_that_is_there(container: Object, stage: Stage) -> None:
    container["image"] = stage.cluster.image


LATE_VOLUME, LATE_MOUNT = secret_volume("late-secret-volume")

AILMENTS = {
    "late-image": Ailment("ImageUnavailable", container_waits("ErrImagePull", "ImagePullBackOff"), bring_image,
                          image="late"),
    "late-secret": Ailment("ContainerConfigError", container_waits("CreateContainerConfigError"),
                           make_secret("late-secret"), container=secret_variable("late-secret")),
    "late-secret-volume": Ailment("ContainerConfigError", event("FailedMount"), make_secret("late-secret-volume"),
                                  pod=LATE_VOLUME, container=LATE_MOUNT),
    "late-account": Ailment("PodRejected", event("FailedCreate"), make_service_account,
                            pod={"serviceAccountName": "late-account"}),
    "late-quota": Ailment("PodRejected", event("FailedCreate"), raise_quota, container=MUCH_CPU),
    # The kubelet may hear of its node's label after the pod, and then refuses that.
    "late-room": Ailment("NoNodeMatches", unscheduled, make_room, pod={"nodeSelector": {"room": "true"}}, attempts=2),
    "late-template": Ailment("TemplateMissing", submitted, make_template, template=False),
    "late-label": Ailment("TemplateNotAllowed", submitted, label_template, labels={}),
    "mended-template": Ailment("PodRejected", event("FailedCreate"),
                               change_template("mended-template", no_longer_privileged), container=PRIVILEGED,
                               attempts=2),
    "mended-image": Ailment("ImageUnavailable", container_waits("ErrImagePull", "ImagePullBackOff"),
                            change_template("mended-image", image_that_is_there), image=NO_IMAGE, attempts=2),
}  # fmt: skip


@pytest.mark.parametrize(("title", "scene"), AILMENTS.items(), ids=AILMENTS)
def test_what_keeps_it_from_starting_is_named_and_once_mended_it_succeeds(
    stage: Stage, played: dict[str, Played], title: str, scene: Ailment
) -> None:
    it_is_named_and_heals(stage, played[title], title, scene)
