"""Mark what a test run creates on the test cluster, and remove what a run that was killed left there.

Runs may share a cluster. So a namespace carries the run's name and the process that made it. Only that process removes
it, or another run when it is old and that process has ended. A cluster-scoped object has in its name the name of the
namespace that it serves, and is removed with it.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
"""The name of this run. The second run of failed tests has another one than the first."""
RUN_LABEL = "spoke-jobs/test-run"
OWNER_ANNOTATION = "spoke-jobs/test-owner"
OLD = timedelta(hours=6)
"""No run takes that long."""
CLUSTER_SCOPED = (
    "clusterroles",
    "clusterrolebindings",
    "persistentvolumes",
    "priorityclasses",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
)
"""The kinds of cluster-scoped objects that tests and the charts create."""


class Owner(NamedTuple):
    """A process of this machine. The kernel gives its number to others later, but not with the same start time."""

    pid: int
    started: int
    """In the kernel's ticks since the boot."""

    def __str__(self) -> str:
        return f"{self.pid} {self.started}"


@dataclass(frozen=True)
class TestNamespace:
    """A namespace that a test run created."""

    __test__ = False  # for pytest

    name: str
    created_at: datetime
    owner: Owner | None
    """None if the annotation is not readable."""
    terminating: bool = False


def removable(found: Iterable[TestNamespace], now: datetime, alive: Collection[Owner]) -> tuple[str, ...]:
    """Return the names of the namespaces that are old and have no living owner."""
    return tuple(
        item.name
        for item in found
        if not item.terminating and now - item.created_at > OLD and (item.owner is None or item.owner not in alive)
    )


def serving(namespace: str, objects: Iterable[str]) -> tuple[str, ...]:
    """Return those of these cluster-scoped objects, each as `KIND/NAME`, that serve the namespace."""
    return tuple(item for item in objects if namespace in item.partition("/")[2])


def namespace_metadata(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the metadata of a namespace of this run and this process."""
    owner = owner_of(os.getpid())
    return {
        "name": name,
        "labels": {RUN_LABEL: RUN} | (labels or {}),
        "annotations": {OWNER_ANNOTATION: str(owner)},
    }


def read_namespace(item: dict[str, Any]) -> TestNamespace:
    """Read a namespace as the API server returns it."""
    metadata = item["metadata"]
    pid, _, started = metadata.get("annotations", {}).get(OWNER_ANNOTATION, "").partition(" ")
    owner = Owner(int(pid), int(started)) if pid.isdigit() and started.isdigit() else None
    created_at = datetime.fromisoformat(metadata["creationTimestamp"])
    return TestNamespace(metadata["name"], created_at, owner, "deletionTimestamp" in metadata)


def owner_of(pid: int) -> Owner | None:
    """Return the process that has this number now; None if there is none, or if it has ended."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else Owner(pid, int(after_name[19]))


def remove_leftovers(kubectl: Callable[..., str]) -> None:
    """Remove from the cluster what killed runs left. ``kubectl`` returns the output for its arguments."""
    listed = json.loads(kubectl("get", "namespaces", f"--selector={RUN_LABEL}", "--output=json"))
    found = [read_namespace(item) for item in listed["items"]]
    alive = {owner for item in found if item.owner and (owner := owner_of(item.owner.pid))}
    for name in removable(found, datetime.now(UTC), alive):
        remove_namespace(kubectl, name)


def remove_namespace(kubectl: Callable[..., str], name: str) -> None:
    """Delete a namespace and the cluster-scoped objects that serve it, without waiting for their end.

    The namespace goes last: while it is there, another run removes what this process, if it is killed, has left.
    """
    how = ("--ignore-not-found", "--wait=false")
    if objects := serving(name, kubectl("get", ",".join(CLUSTER_SCOPED), "--output=name").split()):
        kubectl("delete", *objects, *how)
    kubectl("delete", "namespace", name, *how)
