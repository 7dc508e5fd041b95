"""Texts that YAML reads as something else: whatever text a value has, the charts' objects have that same text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from .conftest import ROOT, Helm, Object, merged
from .test_charts import VARIANTS

PLAIN = "zqz"
HOSTILE = ["true", "null", "123", "1e3", "0x1f", "1 # x", "a: b", '"', "\\", "*a"]
MONITORING: Object = {name: {"enabled": True} for name in ("serviceMonitor", "rules", "dashboards")}
FULL: dict[str, Object] = {
    "spoke-operator": {"monitoring": MONITORING},
    "spoke-app": merged(
        VARIANTS["app, dashboard"][1],
        {
            "secretsAsFiles": False,
            "monitoring": MONITORING,
            "tasks": {"tls": {"enabled": True, "certificate": {"create": True, "issuerRef": {"name": "ca"}}}},
            "workers": {"default": {}},
            "dashboard": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
        },
    ),
}
"""Values by which the charts render most of their objects."""
LEFT_OUT = {"configMapName", "podTemplate", "global"}
"""configMapName is refused beside secretName, and podTemplate must be one of podTemplates."""


def filled(schema: Object, node: Object, *texts: str) -> Any:
    """Values with the first text wherever the schema allows all of them; None if it does nowhere."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    for option in node.get("oneOf", ()):
        node = option if option.get("type") != "null" else node
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    if "string" in node.get("type", ()) and "enum" not in node:
        lengths = range(node.get("minLength", 0), node.get("maxLength", 1000) + 1)
        allowed = all(re.search(node.get("pattern", ""), text) and len(text) in lengths for text in texts)
        return texts[0] if allowed else None
    properties: Mapping[str, Object] = node.get("properties", {})
    if not properties and isinstance(node.get("additionalProperties"), dict):
        properties = {"default": node["additionalProperties"]}
    found = {name: filled(schema, child, *texts) for name, child in properties.items() if name not in LEFT_OUT}
    return {name: value for name, value in found.items() if value is not None} or None


def differences(plain: Any, hostile: Any, text: str, path: str = "") -> list[str]:
    """Where the objects differ in more than the text."""
    if isinstance(plain, dict) and isinstance(hostile, dict) and len(plain) == len(hostile):
        pairs = zip(plain.items(), hostile.items(), strict=True)
        return [one for (name, a), (_, b) in pairs for one in differences(a, b, text, f"{path}.{name}")]
    if isinstance(plain, list) and isinstance(hostile, list) and len(plain) == len(hostile):
        return [
            one
            for n, (a, b) in enumerate(zip(plain, hostile, strict=True))
            for one in differences(a, b, text, f"{path}[{n}]")
        ]
    wanted = without_hashes(plain.replace(PLAIN, text)) if isinstance(plain, str) else plain
    return (
        []
        if wanted == (without_hashes(hostile) if isinstance(hostile, str) else hostile)
        else [f"{path}: {hostile!r}, not {wanted!r}"]
    )


def without_hashes(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{8,64}\b", "HASH", text)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(("chart", "as_files"), [("spoke-operator", False), ("spoke-app", False), ("spoke-app", True)])
def test_a_text_stays_the_same_text(helm: Helm, chart: str, text: str, as_files: bool) -> None:
    schema = json.loads((ROOT / "charts" / chart / "values.schema.json").read_text())
    base = merged(FULL[chart], {"secretsAsFiles": True}) if as_files else FULL[chart]
    both = [merged(base, filled(schema, schema, one, other)) for one, other in ((PLAIN, text), (text, PLAIN))]
    plain, hostile = (helm.render(chart, values) for values in both)
    assert PLAIN in json.dumps(plain)
    assert differences(plain, hostile, text) == []
