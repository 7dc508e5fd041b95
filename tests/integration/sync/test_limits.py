"""The ledger's limits and pauses as SpokeLimits on the real API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from tests.integration.sync.stage import GROUP, ROOT, VERSION, Body, Cluster, Stage
from tests.waiting import eventually

from spoke_jobs.ledger.limits_and_pauses.limit_rows import OperatorLimits, ledger_identity
from spoke_jobs.limits.job_limit import Bounds, Rate, parse_scope
from spoke_jobs.limits.published_limits import spokelimit_name

PLURAL = "spokelimits"
DEFINITION = ROOT / "crds" / f"{PLURAL}.yaml"


@pytest.fixture
def limits(stage: Stage) -> OperatorLimits:
    """The ledger's limits, on an API server that knows SpokeLimits."""
    _install(stage.cluster, DEFINITION)
    return OperatorLimits(stage.ledger.engine)


def _install(cluster: Cluster, definition: Path) -> None:
    api = kubernetes.client.ApiextensionsV1Api(cluster.api)
    body = yaml.safe_load(definition.read_text())
    name = body["metadata"]["name"]
    if name not in [item.metadata.name for item in api.list_custom_resource_definition().items]:
        api.create_custom_resource_definition(body)
    else:  # of an earlier release, perhaps
        api.patch_custom_resource_definition(name, body)

    def served() -> bool:
        try:
            return _all(cluster) == []
        except kubernetes.client.ApiException:
            return False

    eventually(served, "SpokeLimits are served")


def _all(cluster: Cluster) -> list[Body]:
    found = cluster.custom.list_namespaced_custom_object(GROUP, VERSION, cluster.namespace, PLURAL)
    items: list[Body] = found["items"]
    return items


def specs(cluster: Cluster) -> dict[str, Any]:
    return {item["metadata"]["name"]: item["spec"] for item in _all(cluster)}


def test_limits_and_pauses_are_published_changed_and_removed_and_those_of_people_stay(
    stage: Stage, limits: OperatorLimits
) -> None:
    people = {"scope": "queue:slow", "maxRunning": 9}
    body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "SpokeLimit", "metadata": {"name": "few"}, "spec": people}
    stage.cluster.custom.create_namespaced_custom_object(GROUP, VERSION, stage.cluster.namespace, PLURAL, body)
    slow, everything = parse_scope("queue:slow"), parse_scope("all")
    limits.set(slow, lambda _old: Bounds(2, Rate(100, 60, 10)), "ada")

    def become(wanted: dict[str, Any]) -> None:
        eventually(lambda: specs(stage.cluster) == wanted | {"few": people}, f"the SpokeLimits are {wanted}")

    with stage.ledger.engine.connect() as connection:
        ledger = ledger_identity(connection)
    first = {spokelimit_name(slow, ledger): {"scope": "queue:slow", "maxRunning": 2, "rate": "100/min", "burst": 10}}
    with stage.sync():
        become(first)
        limits.pause(everything, "upgrade of the database", "ada")
        paused = {"scope": "all", "paused": {"reason": "upgrade of the database", "by": "ada"}}
        become(first | {spokelimit_name(everything, ledger): paused})
        limits.resume(everything, "ada")
        limits.set(slow, lambda _old: Bounds(0), "ada")
        become({spokelimit_name(slow, ledger): {"scope": "queue:slow", "maxRunning": 0}})
        limits.reset(slow, "ada")
        become({})
