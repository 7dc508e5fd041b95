"""Many jobs that wait or have failed, for what is said of them in groups."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from tests.unit.explain.situations import NOW, a_job, before

from spoke_jobs.cluster.cluster_view import WaitingSpokeJob
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.contract.wait_reasons import Wait
from spoke_jobs.explain.groups import Group
from spoke_jobs.ledger.reading.crowd import FailedCount, WaitingCount, WaitingKind
from spoke_jobs.ledger.reading.crowd_facts import Crowd
from spoke_jobs.ledger.reading.takers import Takers
from spoke_jobs.model import JobRequest

KIND = WaitingKind(
    Subject("report"),
    runner="legacy",
    priority=0,
    later=False,
    cause="",
    fingerprint="",
    submitted=False,
    assigned=False,
    blocked=False,
    holder=None,
)
CLUSTER = replace(KIND, runner="kubernetes", submitted=True)


def waiting(count: int = 3, oldest_at: datetime | None = None, first_id: int = 40, **kind: Any) -> WaitingCount:
    if "job_type" in kind:
        kind["subject"] = Subject(kind.pop("job_type"))
    return WaitingCount(replace(KIND, **kind), count, oldest_at or before(minutes=1), first_id)


def failed(**changes: Any) -> FailedCount:
    values: dict[str, Any] = {
        "cause": "JobError",
        "fingerprint": "ValueError@shop.importing.load_rows",
        "job_type": "import_contacts",
        "types": 1,
        "count": 12,
        "oldest_at": before(hours=2),
        "newest_at": before(minutes=2),
        "newest_id": 77,
    }
    return FailedCount(**(values | changes))


def crowd(*counts: WaitingCount, **around: Any) -> Crowd:
    """Some waiting jobs, and what is around them: ``load``, ``traces`` and ``rules_since`` are of the runner legacy."""
    takers = Takers(**{name: around.pop(name) for name in ("load", "traces", "rules_since") if name in around})
    firsts = {each.first_id: first_of(each) for each in counts}
    return Crowd(NOW, 86_400, counts, takers={"legacy": takers}, first_jobs=firsts, **around)


def first_of(each: WaitingCount) -> JobRequest:
    return a_job(
        id=each.first_id,
        job_type=each.kind.job_type,
        created_at=each.oldest_at,
        updated_at=each.oldest_at,
        priority=each.kind.priority,
    )


def only(found: tuple[Group, ...]) -> Group:
    (group,) = found
    return group


def spokejob(job_id: int, code: str, **wait: Any) -> WaitingSpokeJob:
    return WaitingSpokeJob(job_id, f"uid-{job_id}", Wait(code, **wait), before(minutes=job_id))
