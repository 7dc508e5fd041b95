"""Real objects kept as small JSON files: what ``tests/unit/operator/core/test_recorded.py`` has diagnosed.

To record anew, run ``tests/integration/operator/causes`` with
``SPOKE_TEST_RECORD=tests/unit/operator/core/recorded``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.integration.operator.sightings import EVENTS, JOBS, PODS, SPOKEJOBS, Sighting

Object = dict[str, Any]

_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp",
             "deletionGracePeriodSeconds", "labels", "ownerReferences")  # fmt: skip
SLACK_SECONDS = 0.5
"""What went so little before may have been there when the operator looked."""
_LEFT_OUT = {
    "podIP",
    "podIPs",
    "hostIP",
    "hostIPs",
    "imageID",
    "containerID",
    "allocatedResources",
    "resources",
    "user",
}


def record(path: Path, told: Sequence[Sighting], cause: str) -> None:
    """What was seen of the first attempt when its SpokeJob first named the cause; nothing where it had no Job yet."""
    naming = next((item for item in told if item.kind == SPOKEJOBS and item.status.get("cause") == cause), None)
    if naming is None:
        return
    newest: dict[tuple[str, str], Sighting] = {}
    for item in told:
        if item.at <= naming.at - (SLACK_SECONDS if item.gone else 0):
            newest[item.kind, item.name] = item
    kept: dict[str, list[Object]] = {
        kind: [scrubbed(item) for (of, _), item in newest.items() if of == kind and not item.gone and _counts(item)]
        for kind in (JOBS, PODS, EVENTS)
    }
    if not any(kept.values()):
        return
    spec = naming.body["spec"]
    scene = {
        "cause": cause,
        "now": datetime.fromtimestamp(naming.at, UTC).isoformat(timespec="milliseconds"),
        "startTimeoutSeconds": spec["startTimeoutSeconds"],
        "timeoutSeconds": spec.get("timeoutSeconds"),
        **kept,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(scene, indent=1, sort_keys=True) + "\n")


def _counts(item: Sighting) -> bool:
    """Of the Events only what the operator listens to."""
    return item.kind != EVENTS or item.body["type"] == "Warning"


def scrubbed(item: Sighting) -> Object:
    """The object without what nobody reads: specs (but for the node and suspend), addresses, digests."""
    body, metadata = item.body, item.body["metadata"]
    small: Object = {"metadata": {name: metadata[name] for name in _METADATA if name in metadata}}
    if item.kind == EVENTS:
        return small | {name: body[name] for name in ("involvedObject", "reason", "message", "type", "count")
                        if name in body}  # fmt: skip
    kept = {name: body["spec"][name] for name in ("nodeName", "suspend") if name in body["spec"]}
    return small | {"spec": kept, "status": without(body["status"])}


def without(value: Any) -> Any:
    """The value without what is left out of it, at any depth."""
    if isinstance(value, dict):
        return {name: without(inner) for name, inner in value.items() if name not in _LEFT_OUT}
    return [without(inner) for inner in value] if isinstance(value, list) else value
