"""Generate docs/reference/spokelimit.md: the fields of SpokeLimits, from their model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spoke_jobs.cli.reference.docstrings import banner, table, wrapped
from spoke_jobs.contract.custom_resources.crd import crd
from spoke_jobs.contract.custom_resources.kinds import Kind
from spoke_jobs.contract.custom_resources.spokelimit import ENFORCED, PAUSED
from spoke_jobs.contract.names import ANNOTATION_PAUSED, API_VERSION

_KINDS = {"integer": "whole number", "string": "text", "array": "list", "object": "object"}


def page() -> str:
    """Generate the page."""
    version = crd(Kind.SPOKELIMIT)["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    columns = ", ".join(item["name"].upper() for item in version["additionalPrinterColumns"] if "priority" not in item)
    rules = "\n".join(wrapped(f"- {rule['message']}", "  ") for rule in spec[_RULES])
    headings = ("field", "type", "meaning")
    kind = Kind.SPOKELIMIT.kind
    return f"""{banner("spoke_jobs.contract.custom_resources.spokelimit")}
# SpokeLimit

A `{kind}` (`{API_VERSION}`, short name `spl`) limits or pauses jobs of its namespace, or holds settings of the
namespace. The operator obeys it at once. [Limits and turns](../how-to/limits.md) explains how limits work together, and
[many tenants](../how-to/tenants.md) shows examples.

`kubectl get spokelimits` shows the columns {columns}.

## spec

{table(headings, _rows(spec))}

The API server refuses a SpokeLimit that breaks one of these rules:

{rules}

## status

The operator writes it. It writes changed counts at most every five seconds.

{table(headings, _rows(status))}

| condition | status | reason |
| --- | --- | --- |
| `{ENFORCED}` | `True` | `{ENFORCED}` |
| `{ENFORCED}` | `False` | `UnknownScope`: the scope belongs to another release |
| `{ENFORCED}` | `False` | `Unreadable`: the message names the fields |
| `{PAUSED}` | `True` | `{PAUSED}`: the message says since when, by whom and why |
| `{PAUSED}` | `False` | `NotPaused`, or `PauseEnded` once `until` is over |

Without a condition, no operator of this release serves the namespace.

## The annotation of a Namespace

`{ANNOTATION_PAUSED}` on a Namespace pauses it. The value is the reason. The value `false` does not pause.
"""


_RULES = "x-kubernetes-validations"


def _rows(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in node["properties"].items():
        yield f"`{prefix}{name}`", _type(field), field["description"]
        if field["type"] == "object" and "properties" in field:
            yield from _rows(field, f"{prefix}{name}.")


def _type(field: Mapping[str, Any]) -> str:
    if field.get("format") == "date-time":
        return "time"
    bounds = [f"from {field['minimum']:,}"] if "minimum" in field else []
    bounds += [f"to {field['maximum']:,}"] if "maximum" in field else []
    return " ".join([_KINDS[field["type"]], *bounds])
