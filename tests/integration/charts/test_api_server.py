"""What the charts render, as the API server judges it: no unknown field, and `restricted`. Nothing of it is kept."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping

import pytest
from tests.leftovers import namespace_metadata

from .conftest import ROOT, Helm, Object
from .test_charts import every_variant

CLUSTER = os.environ.get("SPOKE_TEST_CLUSTER", "spoke-test")
_UNKNOWN = ("monitoring.coreos.com/", "gateway.networking.k8s.io/")


class Server:
    """The test cluster's API server, and a namespace that enforces `restricted` and warns of what it can't enforce."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self.namespace = f"charts-{uuid.uuid4().hex[:6]}"

    def open(self) -> None:
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": namespace_metadata(self.namespace, labels)}
        self.kubectl("create", "--filename=-", stdin=json.dumps(body))

    def close(self) -> None:
        self.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def judge(self, objects: list[Object]) -> None:
        """:raises AssertionError: with all that it has to say."""
        command = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"]
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl(*command, "--warnings-as-errors", "--filename=-", stdin=items)

    def kubectl(self, *arguments: str, stdin: str = "") -> None:
        command = ["kubectl", *arguments]
        done = subprocess.run(command, env=self._env, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    script = f'eval "$(tests/cluster/env {CLUSTER})" && env -0'
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"no test cluster; `scripts/test-cluster` makes one: {done.stderr}"
    server = Server(dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line))
    server.open()
    yield server
    server.close()


def here(item: Object, namespace: str) -> Object:
    """The object as it can be judged alone: in this namespace; a pod, whose account isn't there, as a PodTemplate."""
    if "namespace" in item["metadata"]:
        item["metadata"]["namespace"] = namespace
    if item["kind"] != "Pod":
        return item
    template = {"metadata": {"labels": item["metadata"]["labels"]}, "spec": item["spec"]}
    return item | {"kind": "PodTemplate", "template": template, "spec": None}


@every_variant
def test_api_server_takes_it(helm: Helm, server: Server, chart: str, values: Object) -> None:
    """All but what is Prometheus' operator's or the Gateway API's, whose kinds this cluster doesn't know."""
    rendered = helm.render(chart, values, namespace=server.namespace)
    known = [item for item in rendered if not item["apiVersion"].startswith(_UNKNOWN)]
    objects = [here(item, server.namespace) for item in known]
    server.judge([{name: value for name, value in item.items() if value is not None} for item in objects])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"spec": {"podSelecter": {}}}, "podSelecter"),
        ({"spec": {"podSelector": {}, "egress": [{"to": [{}]}]}}, "must specify a peer"),
    ],
)
def test_it_would_notice(server: Server, change: Object, named: str) -> None:
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    metadata = {"name": "wrong", "namespace": server.namespace}
    with pytest.raises(AssertionError, match=named):
        server.judge([policy | {"metadata": metadata} | change])


def test_it_would_notice_a_pod_that_is_not_restricted(helm: Helm, server: Server) -> None:
    objects = [here(item, server.namespace) for item in helm.render("spoke-operator", namespace=server.namespace)]
    (deployment,) = [item for item in objects if item["kind"] == "Deployment"]
    del deployment["spec"]["template"]["spec"]["securityContext"]["seccompProfile"]
    with pytest.raises(AssertionError, match="would violate PodSecurity"):
        server.judge([deployment])
