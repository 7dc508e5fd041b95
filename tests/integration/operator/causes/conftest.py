"""The stage of all causes, and the scenes that are played on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.integration.operator.causes.scenes import COMPARE_SECONDS, Ailment, Played, Scene, mend_later
from tests.integration.operator.causes.stage import Stage
from tests.integration.operator.conftest import (
    CLUSTER,
    NODE,
    Cluster,
    Object,
    OperatorProcess,
    limited_kubeconfig,
    new_namespace,
    run_or_fail,
)
from tests.integration.operator.recording import record
from tests.integration.operator.sightings import Sightings

from spoke_jobs.contract.custom_resources.spokejob import Budget

NEVER_AGAIN = {"budget": dict.fromkeys(Budget.model_fields, 1)}
CPU_QUOTA = "500m"


@pytest.fixture(scope="package")
def bare_image(cluster_env: dict[str, str]) -> str:
    """An image without `spoke-jobs`, on the nodes."""
    name = cluster_env["SPOKE_PYTHON_BASE_IMAGE"]
    run_or_fail(["tests/cluster/load", CLUSTER, name], cluster_env)
    return name


@pytest.fixture(scope="package")
def stage(
    cluster: Cluster, cluster_env: dict[str, str], bare_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A namespace of its own, since its quota would be in the way of other tests."""
    assert cluster.namespace  # it has brought the CRD and the image
    folder = tmp_path_factory.mktemp("causes")
    with new_namespace(cluster_env, cluster.image) as own:
        seen = Sightings(own)
        seen.start()
        quota = {"hard": {"requests.cpu": CPU_QUOTA}, "scopes": ["NotBestEffort"]}
        own.core.create_namespaced_resource_quota(own.namespace, {"metadata": {"name": "cpu"}, "spec": quota})
        operator = OperatorProcess(limited_kubeconfig(own, folder), own.namespace, folder / "operator.log")
        operator.start(
            SPOKE_OPERATOR_FAILED_JOB_RETENTION_SECONDS="3600", SPOKE_OPERATOR_COMPARE_SECONDS=str(COMPARE_SECONDS)
        )
        stage = Stage(own, seen, bare_image)
        try:
            yield stage
        finally:
            seen.stop()
            own.core.patch_node(NODE, {"metadata": {"labels": {stage.room: None}}})
            assert operator.stop() == 0
            print((folder / "operator.log").read_text())


@pytest.fixture(scope="package")
def played(stage: Stage, request: pytest.FixtureRequest) -> Iterator[dict[str, Played]]:
    """All scenes and ailments that tests of this run look at, submitted together; each has a thread for its act."""
    told: dict[str, Scene | Ailment] = dict(filter(None, map(_told, request.session.items)))
    names: dict[str, Played] = {}
    with ThreadPoolExecutor(len(told)) as pool:
        for title, item in sorted(told.items(), key=lambda pair: _comes_late(pair[1])):
            if item.template:
                _put_template(stage, title, item)
            if isinstance(item, Ailment):
                names[title] = Played(name := stage.cluster.submit(title, startTimeoutSeconds=600))
                names[title].done = pool.submit(mend_later, stage, name, item)
            else:
                retry: Object = {"retry": NEVER_AGAIN | {"backoffSeconds": 0.5}}
                names[title] = Played(name := stage.cluster.submit(title, **retry | item.spec))
                if item.act:
                    names[title].done = pool.submit(item.act, stage, name)
        yield names
    if folder := os.environ.get("SPOKE_TEST_RECORD"):
        for title, item in told.items():
            if item.cause == "Cancelled":  # no Pod, Job or Event says so
                continue
            record(Path(folder) / f"{title}.json", stage.seen.of(names[title].name), item.cause)


def _told(item: pytest.Item) -> tuple[str, Scene | Ailment] | None:
    """What a test looks at, with its title."""
    call = getattr(item, "callspec", None)
    scene = call and call.params.get("scene")
    return (call.params["title"], scene) if isinstance(scene, Scene | Ailment) else None


def _comes_late(item: Scene | Ailment) -> tuple[bool, float]:
    """What takes longest is begun first; those that heal take the time of their repair."""
    return (True, 0.0) if isinstance(item, Ailment) else (False, -item.within)


def _put_template(stage: Stage, title: str, described: Scene | Ailment) -> None:
    image = {"bare": stage.bare_image, "late": stage.late_image}.get(described.image, described.image)
    pod = described.pod
    if pod.get("nodeSelector") == {"room": "true"}:
        pod = {"nodeSelector": {stage.room: "true"}}
    stage.cluster.template(
        title, described.steps, image=image or None, pod=pod, container=described.container, labels=described.labels
    )
