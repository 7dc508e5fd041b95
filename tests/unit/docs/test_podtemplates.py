"""docs/how-to/podtemplates.md names all that the operator overrides in a pod, by what a Job is really made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.unit.operator.core.test_build_job import Object, spokejob

from spoke_jobs_operator.core.objects.read_objects import read_template
from spoke_jobs_operator.core.templates.build_job import BOOKKEEPING, build_job, grown

PAGE = " ".join((Path(__file__).parents[3] / "docs/how-to/podtemplates.md").read_text().split())
TEMPLATE: Object = {
    "metadata": {
        "name": "default",
        "namespace": "shop",
        "uid": "t",
        "labels": {"jobs.spoke.dev/template": "true", "kueue.x-k8s.io/queue-name": "q", "own": "label"},
    },
    "template": {
        "metadata": {"labels": {"pod": "label"}},
        "spec": {
            "restartPolicy": "OnFailure",
            "activeDeadlineSeconds": 5,
            "containers": [{"name": "job", "image": "shop", "command": ["sh"], "args": ["-c"], "env": []}],
            "initContainers": [{"name": "first", "image": "shop"}],
        },
    },
}


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value with the names that lead to it; things of a list go by their own names, where they have any."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from leaves(child, (*path, name))
    elif isinstance(node, list) and node and isinstance(node[0], Mapping):
        for item in node:
            yield from leaves(item, (*path, str(item.get("name") or item.get("key"))))
    else:
        yield path, node


def changed(before: Object, after: Object) -> set[tuple[str, ...]]:
    old, new = dict(leaves(before)), dict(leaves(after))
    return {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}


def test_every_override_is_on_the_page() -> None:
    resources = {"limits": {"cpu": "1"}}
    body = build_job(spokejob(timeoutSeconds=60, resources=resources), read_template(TEMPLATE), attempt=1)
    before, after = TEMPLATE["template"]["spec"], body["spec"]["template"]["spec"]
    names = {name for path in changed(before, after) for name in path}
    structure = {"containers", "job", "initContainers", "first", "name", "value", "valueFrom", "fieldRef", "fieldPath"}
    structure |= {"key", "operator", "effect", "tolerationSeconds", "limits", "cpu", "type", "drop"}
    spoken = {
        "terminationMessagePath": "termination message",
        "terminationMessagePolicy": "policy `File`",
        "node.kubernetes.io/not-ready": "`not-ready`",
        "node.kubernetes.io/unreachable": "`unreachable`",
    }
    for name in sorted(names - structure):
        assert spoken.get(name, name) in PAGE, f"the operator sets {name}, and the page doesn't say so"


def test_every_label_annotation_and_field_of_the_job_is_on_the_page() -> None:
    more = {"queue": "q", "organization": 1}
    body = build_job(spokejob(timeoutSeconds=60, **more), read_template(TEMPLATE), attempt=1)
    pod = body["spec"]["template"]["metadata"]
    for name in {
        **body["metadata"]["labels"],
        **body["metadata"]["annotations"],
        **pod["annotations"],
        **pod["labels"],
    }:
        assert name in PAGE or name in ("pod", "own"), name
    assert "own" in body["metadata"]["labels"]
    assert "own" not in pod["labels"]
    for prefix in BOOKKEEPING:
        assert f"`{prefix}`" in PAGE
    for name in body["spec"].keys() - {"template", "suspend"}:
        assert f"`{name}`" in PAGE
    assert body["spec"]["suspend"] is True
    assert "created suspended" in PAGE
    assert body["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 2 * 600 + 60 + 300


def test_memory_grows_as_the_page_says() -> None:
    retry = spokejob().spec.retry
    amounts = [grown({"limits": {"memory": "512Mi"}}, retry, times)["limits"]["memory"] for times in (1, 2, 9)]
    assert amounts == ["768Mi", "1152Mi", "2048Mi"]
    assert "the second attempt has 768Mi, the third 1152Mi" in PAGE
    assert "four times the first attempt's" in PAGE
