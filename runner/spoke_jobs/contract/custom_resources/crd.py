"""The CustomResourceDefinitions, generated from the table of kinds (:mod:`spoke_jobs.contract.custom_resources.kinds`).

``python -m spoke_jobs.contract.custom_resources.crd PLURAL`` prints one as YAML, and without an argument all plurals.
``crds/`` and the operator's chart contain the result. A structural schema is stricter than JSON Schema: it has no
references, no ``anyOf`` with null, and no titles.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from pydantic import BaseModel

from spoke_jobs.contract.custom_resources.kinds import CUSTOM, Kind, ResourceDefinition, Rule

_KEPT = (
    "enum", "minimum", "maximum", "minLength", "maxLength", "pattern", "maxItems", "maxProperties", "default", "format",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
)  # fmt: skip

_UUID = {"maxLength": 36, "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"}
"""Replaces `format: uuid`. With a format, the API server accepts a list in place of the string, and then it can't write
the object's status."""


def crd(kind: Kind) -> dict[str, Any]:
    """Return the CRD of one of our kinds as an object for the API server."""
    definition = kind.value.definition
    assert definition is not None, kind
    spec = structural(definition.spec)
    if rules := [*_immutability(definition, spec), *definition.spec_rules]:
        spec["x-kubernetes-validations"] = [asdict(rule) for rule in rules]
    whole: dict[str, Any] = {
        "type": "object",
        "description": definition.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": structural(definition.status),
        },
    }
    if definition.rules:
        whole["x-kubernetes-validations"] = [asdict(rule) for rule in definition.rules]
    selectable = [{"jsonPath": path} for path in definition.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.resource},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.value.namespaced else "Cluster",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [definition.short_name],
            },
            "versions": [
                {
                    "name": kind.value.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    **({"selectableFields": selectable} if selectable else {}),
                    "additionalPrinterColumns": [
                        {"name": column.name, "type": column.type, "jsonPath": column.path}
                        | ({"priority": column.priority} if column.priority else {})
                        for column in definition.columns
                    ],
                    "schema": {"openAPIV3Schema": whole},
                }
            ],
        },
    }


def _immutability(definition: ResourceDefinition, spec: Mapping[str, Any]) -> Iterator[Rule]:
    """Yield the rule that the fields of the spec stay as they are, except for those that may change."""
    if definition.mutable is None:
        return
    fields = spec["properties"]
    always_set = set(spec["required"]) | {name for name, field in fields.items() if "default" in field}
    fixed = [name for name in fields if name not in definition.mutable]
    rule = " && ".join(_unchanged(name, always_set=name in always_set) for name in fixed)
    yield Rule(rule, definition.immutable_message)


def _unchanged(name: str, *, always_set: bool) -> str:
    if always_set:
        return f"self.{name} == oldSelf.{name}"
    return f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """Return the model's structural schema."""
    schema = model.model_json_schema(by_alias=True)
    result = _convert(schema, schema.get("$defs", {}))
    assert isinstance(result, dict)
    return result


def _convert(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Convert a node of pydantic's JSON Schema to a node of a structural schema."""
    node = _resolved(node, defs)
    result: dict[str, Any] = {"type": node["type"]}
    if "description" in node:
        result["description"] = " ".join(node["description"].split())
    result |= {key: _without_null(node[key]) for key in _KEPT if key in node}
    if result.get("format") == "uuid":
        del result["format"]
        result |= _UUID
    if node["type"] == "integer":
        result["format"] = "int64"
    if node["type"] == "array":
        result["items"] = _convert(node["items"], defs)
    if "properties" in node:
        result["properties"] = {name: _convert(field, defs) for name, field in node["properties"].items()}
        if node.get("required"):
            result["required"] = node["required"]
    elif node["type"] == "object":
        result["additionalProperties"] = _convert(node["additionalProperties"], defs)
    return result


def _without_null(value: Any) -> Any:
    """Return a default without its null fields: Kubernetes leaves out empty fields."""
    return {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value


def _resolved(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Return the node with its reference resolved, and without the null alternative of an optional field."""
    if "anyOf" in node:  # an optional field: Kubernetes leaves it out instead of setting null
        (kind,) = [option for option in node["anyOf"] if option != {"type": "null"}]
        node = {**kind, **{key: value for key, value in node.items() if key != "anyOf"}}
        if node.get("default", "") is None:
            del node["default"]
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[1]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def to_yaml(value: dict[str, Any]) -> str:
    """Return YAML with the innermost mappings and lists on one line. PyYAML is only a development dependency."""
    import yaml

    return yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=160, allow_unicode=True)


DEFINITIONS: Mapping[str, Callable[[], dict[str, Any]]] = {kind.plural: partial(crd, kind) for kind in CUSTOM}
"""The function that returns each CRD, by the resource's plural."""

if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(*DEFINITIONS)  # noqa: T201 (a tool)
    else:
        print("# Generated by `make generate` from spoke_jobs.contract; edit that instead.")  # noqa: T201 (a tool)
        print(to_yaml(DEFINITIONS[sys.argv[1]]()), end="")  # noqa: T201 (a tool)
