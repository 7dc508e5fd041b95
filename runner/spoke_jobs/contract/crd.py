"""The CustomResourceDefinition, generated from :mod:`spoke_jobs.contract.spokejob`.

``python -m spoke_jobs.contract.crd`` prints it as YAML. ``crds/`` and the operator's chart contain the result. A
structural schema is stricter than JSON Schema: it has no references, no ``anyOf`` with null, and no titles.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from spoke_jobs.contract.names import GROUP, KIND, PLURAL, VERSION
from spoke_jobs.contract.spokejob import SpokeJobSpec, SpokeJobStatus

_COLUMNS = (
    ("Type", "string", ".spec.jobType", 0),
    ("Queue", "string", ".spec.queue", 0),
    ("Outcome", "string", ".status.outcome", 0),
    ("Progress", "integer", ".status.progress.percent", 0),
    ("Attempt", "integer", ".status.attempt", 0),
    ("Cause", "string", ".status.cause", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Request", "integer", ".spec.requestId", 1),
    ("Org", "integer", ".spec.organization", 1),
    ("Template", "string", ".spec.podTemplate", 1),
    ("Node", "string", ".status.attempts[-1:].node", 1),
)

_KEPT = (
    "enum", "minimum", "maximum", "minLength", "maxLength", "pattern", "maxItems", "maxProperties", "default", "format",
)  # fmt: skip

_UUID = {"maxLength": 36, "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"}
"""Replaces the format: with a format, the API server accepts a list for the string, and then can't write a status."""


def crd() -> dict[str, Any]:
    """Return the CRD as an object for the API server."""
    spec = _structural(SpokeJobSpec)
    mutable = {"suspend", "cancel"}
    fixed = [name for name in spec["properties"] if name not in mutable]
    required = set(spec["required"]) | {name for name, field in spec["properties"].items() if "default" in field}
    spec["x-kubernetes-validations"] = [
        {
            "rule": " && ".join(_unchanged(name, always_set=name in required) for name in fixed),
            "message": "a SpokeJob's spec is immutable except for suspend and cancel; dispatch another job instead",
        },
        {
            "rule": "!oldSelf.cancel || self.cancel",
            "message": "`cancel` can't be unset; retry or dispatch the job again",
        },
        {"rule": "!self.locksQueue || self.queue != ''", "message": "locksQueue needs a queue"},
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["spj"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "selectableFields": [{"jsonPath": ".status.outcome"}, {"jsonPath": ".spec.queue"}],
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})
                        for name, kind, path, priority in _COLUMNS
                    ],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": "One run of a background job: created by the application's runner, "
                            "turned into Kubernetes Jobs by the operator, one for each attempt.",
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string"},
                                "kind": {"type": "string"},
                                "metadata": {"type": "object"},
                                "spec": spec,
                                "status": _structural(SpokeJobStatus),
                            },
                            "x-kubernetes-validations": [
                                {
                                    "rule": "size(self.metadata.name) <= 63",
                                    "message": "a SpokeJob's name is also a label's value: at most 63 characters",
                                }
                            ],
                        }
                    },
                }
            ],
        },
    }


def _unchanged(name: str, *, always_set: bool) -> str:
    if always_set:
        return f"self.{name} == oldSelf.{name}"
    return f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"


def _structural(model: type[BaseModel]) -> dict[str, Any]:
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


if __name__ == "__main__":
    print("# Generated by `make generate` from spoke_jobs.contract.spokejob; edit that instead.")  # noqa: T201 (a tool)
    print(to_yaml(crd()), end="")  # noqa: T201 (a tool)
