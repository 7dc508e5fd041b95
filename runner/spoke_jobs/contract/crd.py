"""The CustomResourceDefinitions, generated from :mod:`spoke_jobs.contract.spokejob` and ``spokelimit``.

``python -m spoke_jobs.contract.crd PLURAL`` prints one as YAML. ``crds/`` and the operator's chart contain the result.
A structural schema is stricter than JSON Schema: it has no references, no ``anyOf`` with null, and no titles.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from spoke_jobs.contract.limit_scopes import EXPECTED
from spoke_jobs.contract.names import GROUP, KIND, LIMIT_KIND, LIMIT_PLURAL, PLURAL, VERSION
from spoke_jobs.contract.spokejob import SpokeJobSpec, SpokeJobStatus
from spoke_jobs.contract.spokelimit import PAUSED, SpokeLimitSpec, SpokeLimitStatus
from spoke_jobs.contract.start_rate import FASTEST, LONGEST_PERIOD, MOST_STARTS, RATE_FORM

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

_LIMIT_COLUMNS = (
    ("Scope", "string", ".spec.scope", 0),
    ("Max", "integer", ".spec.maxRunning", 0),
    ("Rate", "string", ".spec.rate", 0),
    (PAUSED, "string", f'.status.conditions[?(@.type=="{PAUSED}")].status', 0),
    ("Running", "integer", ".status.running", 0),
    ("Waiting", "integer", ".status.waiting", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Reason", "string", ".spec.paused.reason", 1),
    ("Enforced", "string", '.status.conditions[?(@.type=="Enforced")].status', 1),
)
_OF_THE_NAMESPACE = ("maxUnfinished", "maxPriority", "defaultTimeoutSeconds", "maxTimeoutSeconds", "weight")

_STARTS = "int(self.rate.split('/')[0])"
_PERIOD = (
    "((self.rate.find('/[0-9]+') == '' ? 1 : int(self.rate.find('/[0-9]+').substring(1))) * "
    "(self.rate.matches('m(in)?$') ? 60 : "
    "self.rate.endsWith('h') ? 3600 : self.rate.endsWith('d') ? 86400 : 1))"
)
"""The fields of a rate, in the language of the API server's rules. Its pattern is checked as well."""

_KEPT = (
    "enum", "minimum", "maximum", "minLength", "maxLength", "pattern", "maxItems", "maxProperties", "default", "format",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
)  # fmt: skip

_UUID = {"maxLength": 36, "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"}
"""Replaces `format: uuid`. With a format, the API server accepts a list in place of the string, and then it can't write
the object's status."""


def crd() -> dict[str, Any]:
    """Return the CRD of SpokeJobs as an object for the API server."""
    spec = structural(SpokeJobSpec)
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
    return _definition(
        KIND,
        PLURAL,
        short_name="spj",
        columns=_COLUMNS,
        selectable=[{"jsonPath": ".status.outcome"}, {"jsonPath": ".spec.queue"}],
        schema={
            "description": "One run of a background job: created by the application's runner, "
            "turned into Kubernetes Jobs by the operator, one for each attempt.",
            "spec": spec,
            "status": structural(SpokeJobStatus),
            "rules": [
                {
                    "rule": "size(self.metadata.name) <= 63",
                    "message": "a SpokeJob's name is also a label's value: at most 63 characters",
                }
            ],
        },
    )


def spokelimit_crd() -> dict[str, Any]:
    """Return the CRD of SpokeLimits as an object for the API server."""
    spec = structural(SpokeLimitSpec)
    spec["x-kubernetes-validations"] = [
        {
            "rule": "!(self.scope.startsWith('organization') || self.scope.startsWith('queue') || "
            "self.scope.startsWith('type') || self.scope.startsWith('key') || "
            "self.scope.startsWith('all') || self.scope.startsWith('each-')) || "
            "self.scope.matches("
            "'^(all|each-[a-z]+|(queue|key):.+|type:[^*]+([.][*])?|organization:[0-9]{1,18})$')",
            "message": f"scope must be {EXPECTED}",
        },
        {
            "rule": f"self.scope == 'all' || !({' || '.join(f'has(self.{name})' for name in _OF_THE_NAMESPACE)})",
            "message": f"{', '.join(_OF_THE_NAMESPACE)} need the scope all",
        },
        {
            "rule": "!has(self.defaultTimeoutSeconds) || !has(self.maxTimeoutSeconds) || "
            "self.defaultTimeoutSeconds <= self.maxTimeoutSeconds",
            "message": "defaultTimeoutSeconds must be at most maxTimeoutSeconds",
        },
        {
            "rule": f"!has(self.rate) || ({_STARTS} <= {MOST_STARTS} && {_PERIOD} <= {LONGEST_PERIOD} && "
            f"{_STARTS} <= {FASTEST} * {_PERIOD})",
            "message": f"rate must be {RATE_FORM}: 1 to {MOST_STARTS:,} starts in at most "
            f"{LONGEST_PERIOD // 86_400} days, and at most {FASTEST:,}/s",
        },
        {"rule": "!has(self.burst) || has(self.rate)", "message": "burst needs a rate"},
    ]
    return _definition(
        LIMIT_KIND,
        LIMIT_PLURAL,
        short_name="spl",
        columns=_LIMIT_COLUMNS,
        schema={
            "description": "A limit or a pause of jobs in this namespace, or settings of the namespace, which the "
            "operator obeys at once.",
            "spec": spec,
            "status": structural(SpokeLimitStatus),
        },
    )


def _definition(
    kind: str,
    plural: str,
    *,
    short_name: str,
    columns: Sequence[tuple[str, str, str, int]],
    schema: dict[str, Any],
    selectable: Sequence[dict[str, str]] = (),
) -> dict[str, Any]:
    names: dict[str, Any] = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "shortNames": [short_name],
    }
    whole: dict[str, Any] = {
        "type": "object",
        "description": schema["description"],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": schema["spec"],
            "status": schema["status"],
        },
    }
    if rules := schema.get("rules"):
        whole["x-kubernetes-validations"] = rules
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": names,
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    **({"selectableFields": list(selectable)} if selectable else {}),
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})
                        for name, kind, path, priority in columns
                    ],
                    "schema": {"openAPIV3Schema": whole},
                }
            ],
        },
    }


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


DEFINITIONS = {PLURAL: crd, LIMIT_PLURAL: spokelimit_crd}
"""The function that returns each CRD, by the resource's plural."""

if __name__ == "__main__":
    print("# Generated by `make generate` from spoke_jobs.contract; edit that instead.")  # noqa: T201 (a tool)
    print(to_yaml(DEFINITIONS[sys.argv[1]]()), end="")  # noqa: T201 (a tool)
