"""Charts as Helm renders them. Helm is one of the test cluster's programs; no cluster is needed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
KUBE_VERSION = "1.34.4"

Object = dict[str, Any]
WITH_PODS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "PodTemplate", "Pod")


class Strict(yaml.CSafeLoader):
    """Refuses what YAML doesn't allow and most readers let pass, the last one winning: a key that comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """:raises ConstructorError: if a key comes twice."""
        keys = [key.value for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"{twice} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)


class Refused(Exception):
    """Helm refuses to render; the message is its own."""


class Helm:
    """Helm, on the charts of this repository and the example's."""

    def __init__(self, env: Mapping[str, str], charts: Mapping[str, Path]) -> None:
        self._env = dict(env)
        self._charts = charts

    def render(self, chart: str, values: Object | None = None, release: str = "rel", **options: str) -> list[Object]:
        """The objects, hooks included.

        :raises Refused: if Helm refuses.
        """
        arguments = tuple(f"--{name.replace('_', '-')}={value}" for name, value in options.items())
        return deepcopy(self._rendered(chart, json.dumps(values or {}), release, arguments))

    @cache  # noqa: B019 (one for the session; many tests look at the same rendering)
    def _rendered(self, chart: str, values: str, release: str, arguments: tuple[str, ...]) -> list[Object]:
        command = ("template", release, str(self._charts[chart]), "--kube-version", KUBE_VERSION, "--values", "-")
        return read(self.run(*command, *arguments, stdin=values))

    def lint(self, chart: str, values: Object) -> None:
        """:raises Refused: if there is anything to complain of."""
        self.run("lint", "--strict", "--kube-version", KUBE_VERSION, str(self._charts[chart]), "--values", "-",
                 stdin=json.dumps(values))  # fmt: skip

    def run(self, *arguments: str, stdin: str = "") -> str:
        """What a command of Helm's prints."""
        command = ["helm", *arguments]
        done = subprocess.run(command, env=self._env, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm, with the example's dependency packed (in a copy: the working tree is let be)."""
    script = 'eval "$(tests/cluster/env charts)" && command -v helm >&2 && env -0'
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"helm is not there: run tests/cluster/build ({done.stderr.strip()})"
    env = os.environ | dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)
    copy = tmp_path_factory.mktemp("charts")
    for folder in ("charts/spoke-app", "charts/spoke-operator", "examples/texting/chart"):
        subprocess.run(["cp", "-r", "--parents", folder, str(copy)], cwd=ROOT, check=True)
    tools = Helm(
        env,
        {
            "spoke-operator": copy / "charts/spoke-operator",
            "spoke-app": copy / "charts/spoke-app",
            "texting": copy / "examples/texting/chart",
        },
    )
    tools.run("dependency", "update", "--skip-refresh", str(copy / "examples/texting/chart"))
    return tools


def read(rendered: str) -> list[Object]:
    """The objects in what Helm prints."""
    return [item for item in yaml.load_all(rendered, Loader=Strict) if item]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """Those of the kinds."""
    return [item for item in objects if item["kind"] in kinds]


def named(objects: list[Object], kind: str, name: str) -> Object:
    """The one of that kind and name."""
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"] == name]
    return found


def pod_of(item: Object) -> Object:
    """The pod's specification in a workload or a PodTemplate."""
    spec: Object = _template_of(item)["spec"]
    return spec


def pod_labels(item: Object) -> Object:
    """The labels of a workload's or a PodTemplate's pods."""
    labels: Object = _template_of(item)["metadata"]["labels"]
    return labels


def _template_of(item: Object) -> Object:
    if item["kind"] == "Pod":
        return item
    template: Object = item["template"] if item["kind"] == "PodTemplate" else item["spec"]["template"]
    return template


def pods_of(objects: list[Object]) -> list[tuple[str, Object]]:
    """Each workload's name and its pod's specification."""
    return [(f"{item['kind']} {item['metadata']['name']}", pod_of(item)) for item in of_kind(objects, *WITH_PODS)]


def environment_of(container: Object) -> dict[str, Any]:
    """Variables: the value, or where it comes from."""
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container.get("env", [])}


APP_VALUES: Object = {
    "app": "shop.jobs",
    "image": {"repository": "shop", "tag": "1.2"},
    "database": {"secretName": "shop-database"},
    "tasks": {"key": {"secretName": "shop-tasks"}},
}
"""The least that spoke-app has to be told."""


def merged(base: Object, change: Object) -> Object:
    result = deepcopy(base)
    for name, value in change.items():
        of_both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(result[name], value) if of_both else value
    return result


COMPONENTS = {"sync": "Deployment", "tasks": "Deployment", "migrations": "Job"}


def component_of(objects: list[Object], component: str) -> Object:
    (found,) = [
        item
        for item in of_kind(objects, COMPONENTS[component])
        if item["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    return found
