"""Which jobs move to pods: sync's looks, with the claims, pauses, locks and limits between them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from hypothesis import given, settings, strategies
from tests.contract.predicates import covers

from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.ledger.maintenance.overflow import Candidate, LaneClaims, Waits
from spoke_jobs.limits.admission import Admission, LimitSet
from spoke_jobs.limits.job_limit import Bounds, JobLimit, LimitPause, Rate, parse_scope
from spoke_jobs.sync import overflow_looks
from spoke_jobs.sync.overflow_looks import Looks, look

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
SERIAL = parse_scope("type:a.*")
"""The jobs of these types run one at a time, and those of each queue, too, whether or not they lock it."""
JOBS = (
    Candidate(1, Subject("a.b"), "", 30.0),
    Candidate(2, Subject("a.c", "q"), "q", 10.0),
    Candidate(3, Subject("b", "r", 7), "r", 20.0),
    Candidate(4, Subject("b", "r"), "", 20.0),
    Candidate(5, Subject("b", "", 7), "", 40.0),
    Candidate(6, Subject("b", "", None, "k"), "", 10.0),
)
PAUSED = ("all", "type:a.*", "type:b", "each-queue", "queue:r", "organization:7", "each-organization", "key:k")


class Step(NamedTuple):
    """What happens before a look, and what it finds."""

    seconds: float
    paused: str | None
    locked: str | None
    claimed: tuple[Candidate, ...]


def waits(paused: str | None, locked: str | None, claimed: tuple[Candidate, ...] = (), first: bool = False) -> Waits:
    """Read what a ledger with these jobs would say."""
    limits = [JobLimit(SERIAL, Bounds(1), id=1), JobLimit(parse_scope("each-queue"), Bounds(1), id=2)]
    if paused is not None:
        limits.append(JobLimit(parse_scope(paused), limits[-1].bounds, LimitPause("why", "ada", NOW), id=3))
    admission = Admission(LimitSet(limits), {}, NOW)
    free = tuple(
        job for job in JOBS if not covers(admission.closed(), job.subject) and not (job.queue and job.queue == locked)
    )
    claims = Counter(LaneClaims(job.subject, job.queue) for job in claimed)
    return Waits(admission, free, frozenset([locked] if locked else ()), None if first else claims, 1)


def closed_by(job: Candidate, scope: str) -> bool:
    """Whether a scope is one of a job's, by the words of the documentation."""
    subject, (kind, _, name) = job.subject, scope.partition(":")
    return {
        "all": True,
        "type": subject.job_type == name or (name == "a.*" and subject.job_type.startswith("a.")),
        "queue": subject.queue_name == name,
        "each-queue": bool(subject.queue_name),
        "organization": subject.organization_id == 7,
        "each-organization": subject.organization_id is not None,
        "key": subject.limit_key == name,
    }[kind]


def share(job: Candidate, other: Candidate) -> bool:
    """Whether two jobs exclude each other."""
    same_queue = bool(job.subject.queue_name) and job.subject.queue_name == other.subject.queue_name
    return same_queue or (closed_by(job, "type:a.*") and closed_by(other, "type:a.*"))


STEPS = strategies.builds(
    Step,
    strategies.sampled_from([1.0, 5.0, 9.0, 30.0]),
    strategies.sampled_from([None, None, None, None, *PAUSED]),
    strategies.sampled_from([None, None, None, "q", "r"]),
    strategies.lists(strategies.sampled_from(JOBS), max_size=1).map(tuple),
)


@given(steps=strategies.lists(STEPS, min_size=3, max_size=14))
@settings(max_examples=200, deadline=None)
def test_a_job_moves_exactly_if_nothing_but_workers_kept_it_waiting_for_its_overflow_seconds(
    steps: list[Step],
) -> None:
    looks, moved = look(Looks(), waits(None, None, first=True), 0.0)
    assert not moved, "one look does not suffice"
    now, held, before = 0.0, dict.fromkeys(JOBS, -1000.0), set(JOBS)
    for step in steps:
        now += step.seconds
        found = waits(step.paused, step.locked, step.claimed)
        for job in JOBS:
            paused = step.paused is not None and closed_by(job, step.paused)
            locked = step.locked is not None and job.queue == step.locked
            if paused or locked or any(share(job, other) for other in step.claimed):
                held[job] = now
        looks, moved = look(looks, found, now)
        expected = [job.id for job in found.candidates if job in before and now - held[job] >= job.overflow_seconds]
        assert moved == expected
        before = set(found.candidates)


def admission(bounds: Bounds, running: int = 0) -> Admission:
    limits = LimitSet([JobLimit(parse_scope("all"), bounds, id=1, full_at=NOW)])
    return Admission(limits, {Subject("b"): running}, NOW)


@pytest.mark.parametrize(
    ("bounds", "running", "claims", "holds"),
    [
        (Bounds(10), 8, 1, False),
        (Bounds(10), 8, 2, True),
        (Bounds(rate=Rate(2)), 0, 5, False),
        (Bounds(rate=Rate(2)), 0, 6, True),
        (Bounds(rate=Rate(1, 60)), 0, 1, True),
        (Bounds(rate=Rate(1, 60, 100)), 0, 40, False),
        (Bounds(20, Rate(1, 60, 100)), 0, 40, True),
    ],
)
def test_claims_that_leave_room_under_a_limit_hold_nothing_back(
    bounds: Bounds, running: int, claims: int, holds: bool
) -> None:
    """Of 2 starts in a second, 10 come within 5 seconds, and one was there before."""
    free = (Candidate(1, Subject("b"), "", 30.0),)
    looks, _ = look(Looks(), Waits(admission(bounds, running), free), 0.0)
    _, moved = look(looks, Waits(admission(bounds), free, claims={LaneClaims(Subject("a"), ""): claims}), 5.0)
    assert moved == ([] if holds else [1])


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Admission(LimitSet([]), {}, NOW)
    monkeypatch.setattr(overflow_looks, "_MOST_HELD", 4)
    looks = Looks()
    for number in range(9):
        looks, _ = look(looks, Waits(limits, locked=frozenset([f"q{number}"])), float(number))
    assert set(looks.held.values()) == {5.0, 6.0, 7.0, 8.0}
    looks, _ = look(looks, Waits(limits), 3_607.0)
    assert set(looks.held.values()) == {7.0, 8.0}
    patient = (Candidate(1, Subject("b"), "", 9_000.0), Candidate(2, Subject("b"), "", float("inf")))
    looks, _ = look(looks, Waits(limits, patient[:1]), 3_608.0)
    assert looks.memory == 9_000
    assert look(looks, Waits(limits, patient), 99_999.0)[0].memory == 7 * 86_400
