"""Which job runs after which, for the ledger in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from uuid import UUID

from spoke_jobs.contract.causes import Cause
from spoke_jobs.ledger.dependencies.dependency_rules import (
    Edge,
    Needed,
    Outcome,
    Retried,
    Standing,
    after_ends,
    after_retry,
    check_batch,
    standing,
    unknown,
)
from spoke_jobs.ledger.memory.memory_batches import MemoryBatches
from spoke_jobs.model import JobRequest, JobState, NewJob


class MemoryDependencies:
    """The dependencies among the jobs of a ledger. The ledger's lock protects them."""

    def __init__(self, jobs: Mapping[int, JobRequest]) -> None:
        self._jobs = jobs
        self._edges: defaultdict[int, list[Edge]] = defaultdict(list)
        self.open: set[tuple[int, int]] = set()
        """The open dependencies: a job, and an unfinished one that it waits for."""
        self.held: dict[int, int] = {}
        """What jobs wait for besides other jobs."""
        self.reserved: dict[int, JobRequest] = {}
        """Jobs that are not visible yet. Others in the same transaction may depend on them."""

    def check(self, new: NewJob, batches: MemoryBatches) -> None:
        """Check that the jobs that a new job depends on exist, and do not wait for its own batch.

        :raises InvalidJobData: if one does not exist, or waits for the batch.
        """
        needs = {self._find(reference).id for reference in new.after}
        batch = batches.rows.get(new.batch_id) if new.batch_id is not None else None
        if needs and batch is not None and batch.then_id is not None:

            def waiting_for(ids: Collection[int]) -> set[int]:
                waits = {one for one, other in self.open if other in ids}
                return {*waits, *batches.following(self._jobs[one] for one in ids if one in self._jobs)}

            check_batch(batch.id, batch.then_id, needs, waiting_for)

    def add(self, job_id: int, new: NewJob) -> Standing:
        """Record what a new job depends on.

        :raises InvalidJobData: if one of these jobs does not exist.
        """
        if new.open_dependencies:
            self.held[job_id] = new.open_dependencies
        needs = sorted({self._find(reference).id for reference in new.after})
        if needs:
            self._edges[job_id] = [Edge(job_id, other, new.after_failed == "run") for other in needs]
        return self.of(job_id)

    def of(self, job_id: int) -> Standing:
        """Return how a job stands with the jobs that it depends on."""
        edges = self._edges.get(job_id, [])
        return standing(edges, self._needed({edge.needs_id for edge in edges}))

    def after_end(self, job_id: int) -> Outcome:
        """Decide what the end of a job means for those that depend on it, directly or not, and close dependencies."""
        blocked = {one: job.open_dependencies for one, job in self._jobs.items() if job.state is JobState.BLOCKED}
        edges = [edge for one in blocked for edge in self._edges[one] if (one, edge.needs_id) in self.open]
        outcome = after_ends({job_id: self._jobs[job_id].state is JobState.FAILED}, blocked, edges)
        over = {job_id, *outcome.failed}
        self.open = {(one, other) for one, other in self.open if one not in outcome.failed and other not in over}
        return outcome

    def failed_because_of(self, job_id: int) -> set[int]:
        """Find the jobs that failed because a job failed, directly or not; of several with one key, the newest."""
        found = {job_id}
        for one, edges in sorted(self._edges.items()):
            job = self._jobs.get(one)
            because = any(edge.needs_id in found and not edge.runs_after_failure for edge in edges)
            if because and job is not None and (job.state, job.cause) == (JobState.FAILED, Cause.DEPENDENCY_FAILED):
                found.add(one)
        newest = {self._jobs[one].unique_key or one: one for one in sorted(found)}
        own_key = self._jobs[job_id].unique_key
        return {one for key, one in newest.items() if one != job_id and (own_key is None or key != own_key)}

    def after_retry(self, job_id: int, again: Collection[int]) -> Retried:
        """Decide what a retry starts.

        :raises DependencyNotMet: if a job that it depends on has failed.
        """
        edges = [edge for one in (job_id, *again) for edge in self._edges.get(one, [])]
        return after_retry(job_id, again, edges, self._needed({job_id, *again, *(edge.needs_id for edge in edges)}))

    def needed_by_unfinished(self, job_id: int) -> bool:
        """Whether an unfinished job depends on it."""
        return any(
            edge.needs_id == job_id and one in self._jobs and not self._jobs[one].state.final
            for one, edges in self._edges.items()
            for edge in edges
        )

    def forget(self, job_id: int) -> None:
        """Remove a deleted job."""
        self._edges.pop(job_id, None)
        self.reserved.pop(job_id, None)
        for one, edges in self._edges.items():
            self._edges[one] = [edge for edge in edges if edge.needs_id != job_id]

    def _needed(self, ids: Collection[int]) -> dict[int, Needed]:
        return {one: needed(self._jobs.get(one) or self.reserved[one]) for one in ids}

    def _find(self, reference: int | UUID) -> JobRequest:
        for jobs in (self._jobs, self.reserved):
            for job in jobs.values():
                if reference in (job.id, job.uid):
                    return job
        raise unknown(reference)


def needed(job: JobRequest) -> Needed:
    """Describe a job that others depend on."""
    return Needed(job.id, job.uid, job.job_type, job.state, job.cause)
