"""Moves of workers, pods, reapers and users on a ledger, for state machines that choose them at random."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from tests.contract.ledger import LEASE, new_job

from spoke_jobs.contract.causes import CauseClass
from spoke_jobs.contract.retry import RetryPolicy
from spoke_jobs.errors import ChangeRefused, Superseded, UniquenessConflict
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import Claim, Failure, JobOptions, JobRequest, NewJob, Progress, Pulse

LAPSED = -1.0
"""A lease that has lapsed when it is granted."""
EAGER = RetryPolicy(backoff_seconds=0, jitter=0)
ONCE = RetryPolicy(budget={CauseClass.ERROR: 1, CauseClass.INFRASTRUCTURE: 1}, backoff_seconds=0, jitter=0)


def shapes() -> list[NewJob]:
    """Make jobs that interact: two queues, two keys, locks, early ends and ``on_failure``."""
    plain, once = JobOptions(retry=EAGER), JobOptions(retry=ONCE, on_failure="tell")
    brief = JobOptions(retry=ONCE, retention_seconds=0)
    never = JobOptions(retry=EAGER, start_timeout_seconds=1, on_failure="tell")
    ago = datetime.now(UTC) - timedelta(hours=1)  # its start timeout is over when it is dispatched
    return [
        new_job(options=plain, queue_name="q", locks_queue=True),
        new_job(options=once, queue_name="q", locks_queue=True),
        new_job(options=plain, queue_name="q"),
        new_job(options=brief, queue_name="r", locks_queue=True, priority=3),
        new_job(options=once, unique_key="k"),
        new_job(options=plain, unique_key="l", queue_name="r", locks_queue=True),
        new_job(options=never, run_after=ago, unique_key="k"),
        new_job(options=brief, priority=-1),
        new_job(options=plain, run_after=datetime.now(UTC) + timedelta(hours=1)),
    ]


FAILURES = [
    Failure("JobError", "no", "ValueError", "tail"),
    Failure("JobError", "never again", for_good=True),
    Failure("RetryLater", retry_after_seconds=0),
    Failure("WorkerLost"),
]
_WEIGHTS = {
    "dispatch": 5, "dispatch many": 1, "claim": 6, "pod": 3, "beat": 2, "beats": 2, "lapse": 3, "succeed": 3,
    "succeed many": 1, "fail": 4, "release": 1, "cancel": 2, "retry": 2, "reap": 2, "expire": 1, "prune": 1,
    "run now": 2, "priority": 2, "suspend": 2, "resume": 2,
}  # fmt: skip


_STARTS: dict[str, Callable[[Ledger, int, int], JobRequest | None]] = {
    "run now": lambda ledger, job_id, how: ledger.run_now(job_id),
    "priority": lambda ledger, job_id, how: ledger.set_priority(job_id, how - 2),
    "suspend": lambda ledger, job_id, how: ledger.suspend(job_id),
    "resume": lambda ledger, job_id, how: ledger.resume(job_id),
}
"""The changes by hand of when a job starts."""


def play(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> None:
    """Run a machine whose result depends on threads as well, so that shrinking and replaying are useless."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)


@dataclass(frozen=True, slots=True)
class Move:
    """One move: ``which`` selects its object, ``how`` its variant."""

    kind: str
    which: int
    how: int


def moves() -> strategies.SearchStrategy[Move]:
    """Generate moves."""
    kinds = [kind for kind, weight in _WEIGHTS.items() for _ in range(weight)]
    return strategies.builds(Move, strategies.sampled_from(kinds), strategies.integers(0, 8), strategies.integers(0, 5))


@dataclass(slots=True)
class Known:
    """The jobs and claims so far, and the ends of the claims. Shared between threads."""

    jobs: list[int] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    lost: set[UUID] = field(default_factory=set)
    """Tokens that hold no claim any more."""
    accepted: list[UUID] = field(default_factory=list)
    """Tokens whose writes were accepted, in order."""
    counted: dict[UUID, int] = field(default_factory=dict)
    """Tokens whose success was recorded, with their jobs."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def claim(self, which: int) -> Claim | None:
        """Choose one of the newest claims, which are contended."""
        with self.lock:
            return self.claims[-1 - which % min(len(self.claims), 5)] if self.claims else None

    def job(self, which: int) -> int | None:
        """Choose one of the newest jobs."""
        with self.lock:
            return self.jobs[-1 - which % min(len(self.jobs), 5)] if self.jobs else None

    def add(self, *claims: Claim) -> Any:
        """Remember claims that were granted."""
        with self.lock:
            self.claims.extend(claims)
        return [(claim.job.id, claim.number) for claim in claims]

    def heard(self, claim: Claim, held: bool, *, over: bool = False, success: bool = False) -> bool:
        """Remember the ledger's answer to a claim's token."""
        with self.lock:
            if held:
                self.accepted.append(claim.token)
            if held and success:
                self.counted[claim.token] = claim.job.id
            if over or not held:
                self.lost.add(claim.token)
        return held


def perform(move: Move, ledger: Ledger, known: Known) -> Any:
    """Make the move; return the result in a form that can be compared between two ledgers."""
    if move.kind in _WITH_CLAIMS:
        claim = known.claim(move.which)
        return None if claim is None else by_token(move.kind, claim, move, ledger, known)
    if move.kind in ("cancel", "retry", "pod", *_STARTS):
        job_id = known.job(move.which)
        return None if job_id is None else _to_job(move, job_id, ledger, known)
    match move.kind:
        case "dispatch":
            return _dispatch(ledger, [shapes()[move.which]], known)
        case "dispatch many":
            return _dispatch(ledger, [shapes()[(move.which + step) % 9] for step in range(3)], known)
        case "claim":
            return known.add(*ledger.claim_batch("legacy", ["report"], "w", LEASE, 1 + move.how % 3))
        case "reap":
            return sorted((job.id, job.state) for job in ledger.reap("legacy"))
        case "expire":
            types = ["report"] if move.how % 2 else ["tell"]
            return sorted((job.id, job.cause) for job in ledger.expire_starts("legacy", types))
        case "prune":
            return ledger.prune()
    raise AssertionError(move)


def _dispatch(ledger: Ledger, new: Sequence[NewJob], known: Known) -> Any:
    try:
        jobs = [ledger.insert(new[0])] if len(new) == 1 else ledger.insert_many(new)
    except UniquenessConflict:
        return "conflict"
    with known.lock:
        known.jobs.extend(job.id for job in jobs)
    return [(job.id, job.state) for job in jobs]


def _to_job(move: Move, job_id: int, ledger: Ledger, known: Known) -> Any:
    if move.kind == "cancel":
        job = ledger.cancel(job_id)
        return job and job.state
    if move.kind == "retry":
        try:
            job = ledger.retry(job_id)
        except UniquenessConflict:
            return "conflict"
        return job and (job.state, job.run)
    if move.kind in _STARTS:
        try:
            job = _STARTS[move.kind](ledger, job_id, move.how)
        except ChangeRefused as error:
            return str(error)
        return job and (job.state, job.priority, job.suspended_at is None)
    job = ledger.get(job_id)
    if job is None:
        return None
    answer = ledger.claim(job.id, job.uid, job.run, job.attempt + move.how % 2, "pod", LEASE)
    return known.add(answer) if isinstance(answer, Claim) else type(answer).__name__


_WITH_CLAIMS = {"beat", "beats", "lapse", "succeed", "succeed many", "fail", "release"}


def by_token(kind: str, claim: Claim, move: Move, ledger: Ledger, known: Known) -> Any:
    """Make a move of the claim's owner, who may have lost it."""
    match kind:
        case "beat" | "lapse":
            lease, told = (LEASE, Progress(move.how, "on")) if kind == "beat" else (LAPSED, None)
            pulse = ledger.heartbeat(claim.token, lease, told)
            known.heard(claim, pulse is not Pulse.GONE)
            return pulse
        case "beats":
            chosen = {one.token: one for which in range(3) if (one := known.claim(move.which + which))}
            pulses = ledger.heartbeats({token: Progress(move.how, "all") for token in chosen}, LEASE)
            for token, pulse in pulses.items():  # without those that another move has locked at the moment
                known.heard(chosen[token], pulse is not Pulse.GONE)
            return list(pulses.values())
        case "succeed":
            try:
                ledger.succeed(None, claim.token, f"{claim.job.id}-{claim.number}")
            except Superseded:
                return known.heard(claim, False)
            return known.heard(claim, True, over=True, success=True)
        case "succeed many":
            chosen = {one.token: one for which in range(2) if (one := known.claim(move.which + which))}
            done = ledger.succeed_many({token: f"{one.job.id}-{one.number}" for token, one in chosen.items()})
            return [known.heard(one, token in done, over=True, success=True) for token, one in chosen.items()]
        case "fail":
            failure = FAILURES[move.how % len(FAILURES)]
            return known.heard(claim, ledger.fail(claim.token, failure, decide=move.how < 4), over=True)
        case "release":
            return known.heard(claim, ledger.release(claim.token), over=True)
    raise AssertionError(kind)
