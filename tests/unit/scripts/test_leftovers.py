"""What the tests may remove from a cluster that other runs share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from tests.leftovers import (
    OLD,
    OWNER_ANNOTATION,
    RUN,
    RUN_LABEL,
    Owner,
    TestNamespace,
    namespace_metadata,
    owner_of,
    read_namespace,
    removable,
    remove_leftovers,
    serving,
)

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
LONG_AGO, LATELY = NOW - OLD - timedelta(seconds=1), NOW - OLD
ALIVE, DEAD = Owner(100, 5000), Owner(101, 5000)
REUSED = Owner(ALIVE.pid, 4000)
"""Had the number that another process has now."""


@pytest.mark.parametrize(
    ("item", "removed"),
    [
        (TestNamespace("a", LONG_AGO, DEAD), True),
        (TestNamespace("a", LONG_AGO, REUSED), True),
        (TestNamespace("a", LONG_AGO, None), True),
        (TestNamespace("a", LONG_AGO, ALIVE), False),
        (TestNamespace("a", LATELY, DEAD), False),
        (TestNamespace("a", LATELY, None), False),
        (TestNamespace("a", LONG_AGO, DEAD, terminating=True), False),
    ],
)
def test_only_what_is_old_and_has_no_living_owner_is_removed(item: TestNamespace, removed: bool) -> None:
    others = [TestNamespace("b", LONG_AGO, ALIVE), TestNamespace("c", LONG_AGO, DEAD)]
    expected = ("a", "c") if removed else ("c",)
    assert removable([item, *others], NOW, {ALIVE}) == expected


def test_a_namespace_says_whose_it_is() -> None:
    metadata = namespace_metadata("e2e-jobs-1", {"app": "shop"})
    assert metadata["labels"] == {RUN_LABEL: RUN, "app": "shop"}
    created = {"creationTimestamp": "2026-11-29T12:00:00Z"}
    read = read_namespace({"metadata": metadata | created})
    assert read == TestNamespace("e2e-jobs-1", NOW, owner_of(os.getpid()))
    gone = created | {"deletionTimestamp": "2026-11-29T12:00:01Z"}
    assert read_namespace({"metadata": metadata | gone}).terminating


@pytest.mark.parametrize(
    "annotations", [{}, {OWNER_ANNOTATION: ""}, {OWNER_ANNOTATION: "12"}, {OWNER_ANNOTATION: "a b"}]
)
def test_an_annotation_that_cannot_be_read_names_no_owner(annotations: dict[str, str]) -> None:
    metadata = {"name": "a", "creationTimestamp": "2026-11-29T12:00:00Z", "annotations": annotations}
    assert read_namespace({"metadata": metadata}).owner is None


def test_a_process_is_an_owner_until_it_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = owner_of(process.pid)
        assert owner == owner_of(process.pid)
        assert owner is not None
        assert owner != owner_of(os.getpid())
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert owner_of(process.pid) is None, "it has ended, though nobody has waited for it"
    assert owner_of(process.pid) is None


def test_a_cluster_scoped_object_serves_the_namespace_in_its_name() -> None:
    objects = [
        "validatingadmissionpolicy.admissionregistration.k8s.io/jobs.spoke-operator.e2e-system-1a2b3c",
        "clusterrole.rbac.authorization.k8s.io/e2e-tasks-1a2b3c-texting-token-reviews-0123abcd",
        "clusterrole.rbac.authorization.k8s.io/cluster-admin",
        "priorityclass.scheduling.k8s.io/reports-e2e-jobs-1a2b3c",
    ]
    assert serving("e2e-system-1a2b3c", objects) == (objects[0],)
    assert serving("e2e-tasks-1a2b3c", objects) == (objects[1],)
    assert serving("e2e-jobs-ffffff", objects) == ()


def test_leftovers_are_removed_with_what_serves_them() -> None:
    alive = owner_of(os.getpid())
    found = {"killed": "1 1", "runs": str(alive)}
    items = [
        {
            "metadata": {
                "name": name,
                "creationTimestamp": "2020-01-01T00:00:00Z",
                "annotations": {OWNER_ANNOTATION: text},
            }
        }
        for name, text in found.items()
    ]
    deleted: list[str] = []

    def kubectl(*arguments: str) -> str:
        if arguments[0] == "delete":
            deleted.extend(item for item in arguments[1:] if not item.startswith("--"))
            return ""
        if arguments[1] == "namespaces":
            return json.dumps({"items": items})
        return "clusterrole.rbac/role-of-killed\nclusterrole.rbac/role-of-runs\n"

    remove_leftovers(kubectl)
    assert deleted == ["clusterrole.rbac/role-of-killed", "namespace", "killed"], "nothing else names what serves it"
