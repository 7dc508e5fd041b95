"""A namespace of the test's own on the real cluster, with the SpokeJob's definition and no operator."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.operator.conftest import ROOT, cluster_env, run_or_fail
from tests.integration.operator.conftest import Object as Object
from tests.leftovers import namespace_metadata
from tests.waiting import patient

from spoke_jobs.cluster.rights import Right

__all__ = ["cluster_env"]


@dataclass(frozen=True)
class Namespace:
    """What a test does there."""

    name: str
    env: dict[str, str]

    @property
    def kubeconfig(self) -> str:
        """Of somebody who may do everything."""
        return self.env["KUBECONFIG"]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints."""
        command = ["kubectl", "--namespace", self.name, *arguments]
        done = subprocess.run(command, env=self.env, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def create(self, kind: str, name: str, api: str = "v1", **content: object) -> None:
        """Make an object."""
        metadata = {"name": name, "labels": content.pop("labels", {})}
        body = {"apiVersion": api, "kind": kind, "metadata": metadata} | content
        self.kubectl("create", "--filename=-", stdin=json.dumps(body))

    def account(self, name: str, rights: tuple[Right, ...], folder: Path) -> str:
        """Make an account with these rights and no others; gives a kubeconfig that speaks as it."""
        rbac = "rbac.authorization.k8s.io"
        self.create("ServiceAccount", name)
        self.create("Role", name, f"{rbac}/v1", rules=[_rule(right) for right in rights])
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self.name}
        role = {"apiGroup": rbac, "kind": "Role", "name": name}
        self.create("RoleBinding", name, f"{rbac}/v1", roleRef=role, subjects=[subject])
        config = self.config()
        config["users"] = [{"name": name, "user": {"token": self.kubectl("create", "token", name).strip()}}]
        config["contexts"][0]["context"]["user"] = name
        return write(config, folder / f"{name}.kubeconfig")

    def config(self) -> Object:
        """The kubeconfig's content."""
        config: Object = json.loads(self.kubectl("config", "view", "--minify", "--raw", "--output=json"))
        return config


def write(config: Object, path: Path) -> str:
    """Write a kubeconfig; gives its path."""
    path.write_text(json.dumps(config))
    return str(path)


def _rule(right: Right) -> dict[str, list[str]]:
    resource = right.resource + (f"/{right.subresource}" if right.subresource else "")
    names = {"resourceNames": [right.name]} if right.name else {}
    return {"apiGroups": [right.group], "resources": [resource], "verbs": [right.verb]} | names


@pytest.fixture
def namespace(cluster_env: dict[str, str]) -> Iterator[Namespace]:
    """See the module."""
    run_or_fail(
        ["kubectl", "apply", "--server-side", "--force-conflicts", "--filename", str(ROOT / "crds")], cluster_env
    )
    run_or_fail(
        [
            "kubectl",
            "wait",
            "--for=condition=Established",
            "crd/spokejobs.jobs.spoke.dev",
            f"--timeout={patient(300):.0f}s",
        ],
        cluster_env,
    )
    made = Namespace(f"cli-{uuid.uuid4().hex[:8]}", cluster_env)
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": namespace_metadata(made.name)}
    made.kubectl("create", "--filename=-", stdin=json.dumps(body))
    yield made
    run_or_fail(["kubectl", "delete", "namespace", made.name, "--wait=false"], cluster_env)
