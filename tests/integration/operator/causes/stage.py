"""A namespace with an operator, an observer, and what the scenes do there."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

from tests.integration.operator.conftest import GROUP, NODE, PLURAL, VERSION, Cluster, Object
from tests.integration.operator.sightings import PODS, SPOKEJOBS, Sighting, Sightings
from tests.waiting import WITHIN_SECONDS


class Stage:
    """What all scenes share."""

    def __init__(self, cluster: Cluster, seen: Sightings, bare_image: str) -> None:
        self.cluster = cluster
        self.seen = seen
        self.bare_image = bare_image
        self.late_image = f"registry.invalid/late/{cluster.namespace}:1"
        self.room = f"spoke.test/{cluster.namespace}"
        self.moments: dict[str, float] = {}
        """When a scene did something that no object tells of."""

    def pod(self, name: str, attempt: int = 1) -> Sighting:
        """The attempt's pod, when it began to run."""

        def runs(item: Sighting) -> bool:
            labels = item.body["metadata"].get("labels", {})
            return item.kind == PODS and labels["jobs.spoke.dev/attempt"] == str(attempt) and "running" in state(item)

        return self.seen.until(name, f"a running pod of attempt {attempt}", runs)

    def running(self, name: str) -> Sighting:
        """The first attempt's pod, once the SpokeJob says that it runs."""
        self.seen.until(name, "Running", lambda item: item.kind == SPOKEJOBS and outcome(item) == "Running")
        return self.pod(name)

    def named(self, name: str, cause: str, within: float = WITHIN_SECONDS) -> Sighting:
        """The SpokeJob, when it first named what it waits for."""
        return self.seen.until(
            name,
            f"waiting for {cause}",
            lambda item: item.kind == SPOKEJOBS and item.status.get("cause") == cause,
            within,
        )

    def final(self, name: str, within: float = WITHIN_SECONDS) -> Sighting:
        """The SpokeJob at its end."""
        return self.seen.until(
            name, "its end", lambda item: item.kind == SPOKEJOBS and outcome(item) in ("Succeeded", "Failed"), within
        )

    def patch(self, name: str, spec: Mapping[str, Any]) -> None:
        """Change the SpokeJob's spec."""
        self.cluster.custom.patch_namespaced_custom_object(
            GROUP, VERSION, self.cluster.namespace, PLURAL, name, {"spec": spec}
        )

    def on_node(self, *command: str, node: str = NODE) -> str:
        """What a command prints on a node."""
        docker = ["docker", "exec", node, *command]
        done = subprocess.run(docker, env=self.cluster.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(docker)}: {done.stderr}"
        return done.stdout.strip()


def outcome(item: Sighting) -> str:
    """A SpokeJob's outcome."""
    word: str = item.status.get("outcome", "")
    return word


def state(item: Sighting) -> Object:
    """The state of a pod's container."""
    containers = item.status.get("containerStatuses") or [{}]
    found: Object = next((each.get("state", {}) for each in containers if each.get("name") == "job"), {})
    return found


def condition(item: Sighting, kind: str) -> Object:
    """A SpokeJob's condition."""
    found: Object = next(each for each in item.status["conditions"] if each["type"] == kind)
    return found
