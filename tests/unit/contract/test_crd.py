"""The CRD is generated from the model, and is what the repository holds (the API server's word on it: integration)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from spoke_jobs.contract.crd import crd, to_yaml
from spoke_jobs.contract.spokejob import SpokeJobSpec

REPOSITORY = Path(__file__).parents[3]


def nodes(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)]
    for name, child in schema.get("properties", {}).items():
        found += nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            found += nodes(schema[key], f"{path}[]")
    return found


def schema() -> dict[str, Any]:
    version: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return version


def test_the_file_is_what_the_code_generates() -> None:
    text = (REPOSITORY / "crds/spokejobs.yaml").read_text()
    assert yaml.safe_load(text) == crd()
    assert len(text.splitlines()) < 400
    assert yaml.safe_load(to_yaml(crd())) == crd()


def test_every_string_and_list_is_bounded_and_every_field_described() -> None:
    for path, node in nodes(schema()["properties"]["spec"]) + nodes(schema()["properties"]["status"]):
        if node["type"] == "string":
            assert "maxLength" in node or "enum" in node or "format" in node, path
        if node["type"] == "array":
            assert "maxItems" in node, path
        if not path.startswith(".conditions") and not path.endswith("[]"):
            assert node.get("description"), path


def test_everything_but_suspend_and_cancel_is_immutable() -> None:
    rule, one_way, lock = schema()["properties"]["spec"]["x-kubernetes-validations"]
    for field in SpokeJobSpec.model_fields.values():
        name = field.alias or ""
        assert (f"self.{name} " in rule["rule"] or f"self.{name})" in rule["rule"]) == (
            name not in ("suspend", "cancel")
        ), name
    assert one_way["rule"] == "!oldSelf.cancel || self.cancel"
    assert lock["message"] == "locksQueue needs a queue"
    for name in ("locksQueue", "queue"):
        assert "default" in schema()["properties"]["spec"]["properties"][name], "the rule may rely on their being there"
