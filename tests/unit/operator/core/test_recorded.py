"""Real Pods, Jobs and Events, as tests/integration/operator/causes met them, are read right."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.wait_reasons import WAITS
from spoke_jobs_operator.core.diagnosis.attempt_state import Bounds, Ended, Pends
from spoke_jobs_operator.core.diagnosis.diagnose import diagnose
from spoke_jobs_operator.core.objects.read_objects import read_event, read_job, read_pod

RECORDED = sorted(Path(__file__).with_name("recorded").glob("*.json"))
"""Each holds what was seen of an attempt when its SpokeJob first named the cause."""
STARTS_LATE = {"NoNodeMatches": "StartTimeout"}
"""What is final by another name than it was waited for."""


def test_all_are_there() -> None:
    """Those that have no Job, as nothing can be made of their template, aren't."""
    assert {json.loads(path.read_text())["cause"] for path in RECORDED} >= {
        *("JobError", "JobExited", "Killed", "OutOfMemory", "ImageUnavailable", "ContainerConfigError"),
        *("PodRejected", "NoNodeMatches", "ContainerCannotRun", "Timeout", "PodDeleted", "JobDeleted", "Drained"),
        "NodeLost",
    }


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_was_seen_says_the_cause(path: Path) -> None:
    seen: dict[str, Any] = json.loads(path.read_text())
    job = next(map(read_job, seen["jobs"]), None)
    pods = [read_pod(body) for body in seen["pods"]]
    events = [event for event in map(read_event, seen["events"]) if event]
    bounds = Bounds(seen["startTimeoutSeconds"], seen["timeoutSeconds"], ran=False)
    state = diagnose(job, pods, events, bounds, datetime.fromisoformat(seen["now"]), live=True)
    if isinstance(state, Pends):
        assert state.reason == seen["cause"]
        assert state.message
    else:
        assert isinstance(state, Ended)
        assert state.cause == STARTS_LATE.get(seen["cause"], seen["cause"])
    assert seen["cause"] in CAUSES or seen["cause"] in WAITS


def test_no_address_or_digest_was_kept() -> None:
    for path in RECORDED:
        text = path.read_text()
        assert "sha256:" not in text
        assert "IP" not in text
