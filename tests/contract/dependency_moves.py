"""Random graphs of jobs that depend on others, and the rules that must hold after any sequence of ends."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from tests.contract.ledger import FOR_GOOD, LEASE, new_job

from spoke_jobs.errors import DependencyNotMet
from spoke_jobs.ledger.sql_ledger import SqlLedger as Ledger
from spoke_jobs.model import JobRequest, JobState

KINDS = ("dispatch", "dispatch", "dispatch", "succeed", "succeed", "fail", "cancel", "retry", "settle")


@dataclass(frozen=True, slots=True)
class Step:
    """One step: ``chosen`` selects jobs among those that exist."""

    kind: str
    chosen: tuple[int, ...]
    lenient: bool


def steps(seed: int, number: int) -> Iterator[Step]:
    """Generate steps from a seed, much faster than hypothesis draws each of their values."""
    chance = random.Random(seed)
    for _ in range(number):
        chosen = tuple(chance.randrange(40) for _ in range(chance.randint(1, 4)))
        yield Step(chance.choice(KINDS), chosen, chance.random() < 0.5)


@dataclass(slots=True)
class Graph:
    """The jobs that were dispatched, each with those that it depends on and whether it runs after their failure."""

    needs: dict[int, tuple[frozenset[int], bool]] = field(default_factory=dict)

    def take(self, step: Step, ledger: Ledger) -> None:
        """Take a step. Steps of several threads may be taken at once."""
        ids = sorted(self.needs)
        match step.kind:
            case "dispatch":
                after = frozenset(ids[-1 - one % len(ids)] for one in step.chosen[1:]) if ids else frozenset()
                new = new_job(
                    after=tuple(after), after_failed="run" if step.lenient else "fail", priority=step.chosen[0] % 3
                )
                self.needs[ledger.insert(new).id] = (after, step.lenient)
            case "succeed" | "fail":
                claims = ledger.claim_batch("legacy", ["report"], "w", LEASE, len(step.chosen))
                if step.kind == "succeed":
                    ledger.succeed_many({claim.token: None for claim in claims})
                for claim in claims if step.kind == "fail" else ():
                    ledger.fail(claim.token, FOR_GOOD, decide=True)
            case "cancel" if ids:
                ledger.cancel(ids[-1 - step.chosen[0] % len(ids)])
            case "retry" if ids:
                with suppress(DependencyNotMet):
                    ledger.retry(ids[-1 - step.chosen[0] % len(ids)])
            case "settle":
                ledger.settle()

    def check(self, jobs: Mapping[int, JobRequest]) -> None:
        """Check that each job's state follows from those of the jobs that it depends on."""
        for job_id, (needs, lenient) in self.needs.items():
            job, others = jobs[job_id], [jobs[other] for other in needs]
            unfinished = sum(not other.state.final for other in others)
            failed = any(other.state is JobState.FAILED for other in others) and not lenient
            said = (job_id, job.state, job.cause, [(other.id, other.state) for other in others])
            if job.state is JobState.BLOCKED:
                # A failed one that was retried is not waited for again.
                assert 0 < job.open_dependencies <= unfinished, said
                assert lenient or job.open_dependencies == unfinished, said
                assert lenient or all(other.awaited for other in others if not other.state.final), said
                assert not failed, said
            else:
                assert job.open_dependencies == 0, said
            if job.state in (JobState.WAITING, JobState.RUNNING, JobState.SUCCEEDED) and not lenient:
                assert all(other.state is JobState.SUCCEEDED for other in others), said
            if job.cause == "DependencyFailed":
                assert job.state is JobState.FAILED, said
                assert failed, said
            assert not (job.state.final and job.awaited), said

    def finish(self, ledger: Ledger) -> None:
        """Let all jobs succeed that can start; none may remain."""
        while claims := ledger.claim_batch("legacy", ["report"], "w", LEASE, 20):
            ledger.succeed_many({claim.token: None for claim in claims})
        jobs = all_jobs(ledger)
        self.check(jobs)
        assert all(job.state.final for job in jobs.values())


def all_jobs(ledger: Ledger) -> dict[int, JobRequest]:
    """Read all jobs."""
    return {job.id: job for job in ledger.list_jobs(10_000)}
