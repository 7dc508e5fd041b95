"""SpokeJobs of the first release, 0.1, and its definition, beside those of this release."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.contract.test_crd import nodes, schema
from tests.unit.explain.situations import a_job

from spoke_jobs.cluster.manifest import spokejob
from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.custom_resources.spokejob import Outcome, SpokeJob
from spoke_jobs.contract.retry import DEFAULT_BUDGET
from spoke_jobs.sync.sync_model import read_view

FILE = Path(__file__).with_name("spokejobs-of-0.1.yaml")
"""The first release's own file."""
AT_LEAST = ("maxLength", "maxItems", "maxProperties", "maximum")
AT_MOST = ("minLength", "minItems", "minimum")
RUNS: dict[str, Any] = {
    "apiVersion": "jobs.spoke.dev/v1",
    "kind": "SpokeJob",
    "metadata": {
        "name": "import-7-0a1b2c3d",
        "namespace": "shop",
        "uid": "6a0e8f3c-0000-4000-8000-000000000000",
        "resourceVersion": "41",
        "generation": 1,
        "creationTimestamp": "2026-11-01T10:00:00Z",
        "labels": {"app.kubernetes.io/managed-by": "spoke-jobs", "jobs.spoke.dev/request-id": "7"},
    },
    "spec": {
        "uid": "0a1b2c3d-0000-4000-8000-000000000000", "requestId": 7, "run": 1, "jobType": "import", "queue": "",
        "locksQueue": False, "priority": 0, "podTemplate": "default", "startTimeoutSeconds": 600,
        "ttlSecondsAfterFinished": 604800, "suspend": False, "cancel": False, "traceparent": "",
        "retry": {"budget": {"error": 3, "image": 3, "infrastructure": 3, "oom": 3, "timeout": 1},
                  "backoffSeconds": 1.0, "backoffMaxSeconds": 300.0, "jitter": 0.25, "memoryFactor": 1.5},
    },
    "status": {
        "observedGeneration": 1, "outcome": "Running", "cause": "", "attempt": 2, "charged": {"infrastructure": 1},
        "attempts": [
            {"number": 1, "job": "import-7-0a1b2c3d-1", "pod": "import-7-0a1b2c3d-1-x", "node": "a", "template": "u.1",
             "startedAt": "2026-11-01T10:00:01Z", "finishedAt": "2026-11-01T10:00:09Z", "cause": "NodeLost",
             "errorType": ""},
            {"number": 2, "job": "import-7-0a1b2c3d-2", "pod": "import-7-0a1b2c3d-2-x", "node": "b", "template": "u.1",
             "startedAt": "2026-11-01T10:00:11Z", "cause": "", "errorType": ""},
        ],
        "conditions": [
            {"type": "Admitted", "status": "True", "reason": "JobCreated", "message": "attempt 2 has its Job",
             "lastTransitionTime": "2026-11-01T10:00:11Z"},
        ],
    },
}  # fmt: skip
"""A SpokeJob as the first release's definition stores it, with its defaults."""


def first_schema() -> dict[str, Any]:
    definition = yaml.safe_load(FILE.read_text())
    found: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def fields(of: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(nodes(of["properties"]["spec"], "spec") + nodes(of["properties"]["status"], "status"))


def paths(value: object, path: str) -> set[str]:
    """Return the paths of all fields of an object."""
    if not isinstance(value, dict):
        return {path}
    return {path}.union(*(paths(item, f"{path}.{name}") for name, item in value.items()))


@pytest.mark.parametrize("path", fields(first_schema()))
def test_what_the_first_definition_accepts_this_one_accepts(path: str) -> None:
    """So that each SpokeJob of the first release can still be written."""
    before, now = fields(first_schema())[path], fields(schema())[path]
    assert now["type"] == before["type"]
    assert set(now.get("required", ())) <= set(before.get("required", ()))
    assert now.get("pattern") in (before.get("pattern"), None)
    assert now.get("format") in (before.get("format"), None)
    if "enum" in now:
        assert set(now["enum"]) >= set(before["enum"])
    for bound in AT_LEAST:
        assert now.get(bound, 1 << 62) >= before.get(bound, 1 << 62), bound
    for bound in AT_MOST:
        assert now.get(bound, -1) <= before.get(bound, -1), bound


def test_a_dispatch_without_new_options_writes_what_the_first_definition_knows() -> None:
    """Behind that definition, the API server drops the other fields: the budgets of disruptions and dependencies."""
    known = set(fields(first_schema()))
    spec = spokejob(a_job(runner="kubernetes"), "shop")["spec"]
    unknown = paths(spec, "spec") - known
    assert unknown <= {"spec.retry.budget.disruption", "spec.retry.budget.dependency"}


def test_a_running_spokejob_of_the_first_release_is_read_and_has_the_new_budgets() -> None:
    found = SpokeJob.from_object(deepcopy(RUNS))
    assert found.status.outcome is Outcome.RUNNING
    attempts = [(item.number, item.cause, item.message) for item in found.status.attempts]
    assert attempts == [(1, "NodeLost", ""), (2, "", "")]
    assert (found.status.charged, found.status.not_charged) == ({"infrastructure": 1}, {})
    assert found.status.attempts[1].started_at == datetime(2026, 11, 1, 10, 0, 11, tzinfo=UTC)
    budget = found.spec.retry.policy().budget
    assert budget[CauseClass.DISRUPTION] == DEFAULT_BUDGET[CauseClass.DISRUPTION]
    view = read_view(deepcopy(RUNS))
    assert (view.attempt, [item.ended for item in view.attempts]) == (2, [True, False])
