"""Many finished SpokeJobs: what they cost an operator that has nothing to do for them."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.launch.api import Api, Object, Submission, all_of, connected
from tests.bench.launch.place import HISTORY, operator, until

from spoke_jobs.contract.custom_resources.kinds import Kind

_PATH = Kind.SPOKEJOB.path(HISTORY)


@dataclass(frozen=True)
class Idle:
    """What the operator needs beside them."""

    megabytes: float
    cpu_percent: float
    restart_seconds: float
    writes: float
    """What it wrote meanwhile, of SpokeJobs and Jobs."""


def fill(count: int) -> None:
    """So many that have succeeded, in the namespace, and one that has not, for an operator to look at."""
    asyncio.run(_fill(count))


async def _fill(count: int) -> None:
    async with connected() as api:
        await all_of([_finished(api, number) for number in range(count)])
        spec = {"uid": str(uuid.uuid4()), "requestId": count + 1, "jobType": "history", "suspend": True}
        body = {
            "apiVersion": Kind.SPOKEJOB.api_version,
            "kind": Kind.SPOKEJOB.kind,
            "metadata": {"name": "suspended"},
            "spec": spec,
        }
        await api.call("POST", _PATH, body)


def _finished(api: Api, number: int) -> Submission:
    name, now = f"history-{number}", datetime.now(UTC).isoformat()
    spec = {"uid": str(uuid.uuid4()), "requestId": number + 1, "jobType": "history"}
    conditions = [
        {"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": now}
        for kind, status, reason in (
            ("Admitted", "True", "JobCreated"),
            ("Running", "False", "Finished"),
            ("Succeeded", "True", "Succeeded"),
            ("Finished", "True", "Succeeded"),
        )
    ]
    attempt = {"number": 1, "job": f"{name}-1", "pod": f"{name}-1-abcde", "node": "node-1", "exitCode": 0}
    status: Object = {
        "observedGeneration": 1,
        "outcome": "Succeeded",
        "attempt": 1,
        "ledger": "Succeeded",
        "finishedAt": now,
        "attempts": [attempt | {"startedAt": now, "finishedAt": now}],
        "conditions": conditions,
    }
    body: Object = {
        "apiVersion": Kind.SPOKEJOB.api_version,
        "kind": Kind.SPOKEJOB.kind,
        "metadata": {"name": name},
        "spec": spec,
    }

    async def make() -> None:
        await api.call("POST", _PATH, body)
        patch = "application/merge-patch+json"
        await api.call("PATCH", f"{_PATH}/{name}/status", {"status": status}, patch)

    return make


def measure(folder: Path, count: int, idle_seconds: float) -> Idle:
    """Start the operator beside them, and watch it. It has been there before, so that nothing is left to be written."""
    with operator(folder, HISTORY) as process:
        until("the one that waits says so", lambda: process.metric("spoke_operator_writes_total") > 0, 120)
    with operator(folder, HISTORY) as process:
        until("the first look is done", lambda: process.metric("spoke_operator_reconciles_total") > 0, 60)
        restart = time.time() - process.began
        until("all were looked at", lambda: process.metric("spoke_operator_reconciles_total") > count, 120)
        time.sleep(5)  # what the start-up left to be collected is: what follows is what is measured
        before, at = process.cpu_seconds, time.monotonic()
        time.sleep(idle_seconds)
        percent = 100 * (process.cpu_seconds - before) / (time.monotonic() - at)
        return Idle(process.megabytes, percent, restart, process.metric("spoke_operator_writes_total"))
