"""The CRD is generated from the model, and is what the repository holds (the API server's word on it: integration)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from spoke_jobs.contract.custom_resources.crd import DEFINITIONS, to_yaml
from spoke_jobs.contract.custom_resources.spokejob import SpokeJobSpec
from spoke_jobs_operator.core.reconciling import status

REPOSITORY = Path(__file__).parents[3]


def nodes(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)]
    for name, child in schema.get("properties", {}).items():
        found += nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            found += nodes(schema[key], f"{path}[]")
    return found


def schema(plural: str = "spokejobs") -> dict[str, Any]:
    version: dict[str, Any] = DEFINITIONS[plural]()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return version


@pytest.mark.parametrize("plural", DEFINITIONS)
def test_the_file_is_what_the_code_generates(plural: str) -> None:
    text, definition = (REPOSITORY / f"crds/{plural}.yaml").read_text(), DEFINITIONS[plural]()
    assert yaml.safe_load(text) == definition
    assert len(text.splitlines()) < 400
    assert yaml.safe_load(to_yaml(definition)) == definition


@pytest.mark.parametrize("plural", DEFINITIONS)
def test_every_string_and_list_is_bounded_and_every_field_described(plural: str) -> None:
    properties = schema(plural)["properties"]
    for path, node in nodes(properties["spec"]) + nodes(properties["status"]):
        if node["type"] == "string":
            assert "maxLength" in node or "enum" in node or "format" in node, path
        if node["type"] == "array":
            assert "maxItems" in node, path
        if not path.endswith("[]"):
            assert node.get("description"), path


def test_conditions_are_a_map_by_type() -> None:
    """So that writers that apply one condition each don't undo one another's."""
    conditions = schema()["properties"]["status"]["properties"]["conditions"]
    assert (conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"]) == ("map", ["type"])
    assert "type" in conditions["items"]["required"]


def test_every_condition_is_described() -> None:
    text = schema()["properties"]["status"]["properties"]["conditions"]["description"]
    page = (REPOSITORY / "docs/how-to/kubectl.md").read_text()
    for name in (status.ADMITTED, status.RUNNING, status.SUCCEEDED, status.FINISHED, status.BLOCKED):
        assert f"{name}" in text
        assert f"| `{name}` |" in page


def test_get_all_does_not_list_spokejobs() -> None:
    """There may be thousands, and `kubectl delete all --all` would delete them."""
    assert "categories" not in DEFINITIONS["spokejobs"]()["spec"]["names"]


def test_everything_but_suspend_cancel_and_priority_is_immutable() -> None:
    rule, one_way, lock = schema()["properties"]["spec"]["x-kubernetes-validations"]
    for field in SpokeJobSpec.model_fields.values():
        name = field.alias or ""
        assert (f"self.{name} " in rule["rule"] or f"self.{name})" in rule["rule"]) == (
            name not in ("suspend", "cancel", "priority")
        ), name
    assert one_way["rule"] == "!oldSelf.cancel || self.cancel"
    assert lock["message"] == "locksQueue needs a queue"
    for name in ("locksQueue", "queue"):
        assert "default" in schema()["properties"]["spec"]["properties"][name], "the rule may rely on their being there"


def test_a_spokelimits_settings_of_the_namespace_need_the_scope_all() -> None:
    scope, whole, timeouts, rate, burst = schema("spokelimits")["properties"]["spec"]["x-kubernetes-validations"]
    assert "organization:[0-9]" in scope["rule"]
    named = {"maxUnfinished", "maxPriority", "defaultTimeoutSeconds", "maxTimeoutSeconds", "weight"}
    assert all(f"has(self.{name})" in whole["rule"] for name in named)
    fields = schema("spokelimits")["properties"]["spec"]["properties"]
    assert named | {"scope", "maxRunning", "rate", "burst", "paused"} == fields.keys(), (
        "a new field belongs to a scope, or to all of them"
    )
    assert "<=" in timeouts["rule"]
    assert "at most 10,000/s" in rate["message"]
    assert burst["message"] == "burst needs a rate"
    conditions = schema("spokelimits")["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
