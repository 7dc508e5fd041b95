"""Batches of the ledger in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from spoke_jobs.ledger.dependencies import batch_rows
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.model import JobRequest, NewJob


class MemoryBatches:
    """The batches of a ledger. The ledger's lock protects them."""

    def __init__(self) -> None:
        self.rows: dict[int, Batch] = {}

    def create(self, name: str, on_failed: str, now: datetime) -> Batch:
        """Add an empty batch."""
        batch = self.rows[len(self.rows) + 1] = Batch(
            id=len(self.rows) + 1, name=name, on_failed=on_failed, created_at=now
        )
        return batch

    def change(self, batch_id: int, **changes: object) -> Batch:
        """Change a batch."""
        batch = self.rows[batch_id] = replace(self.rows[batch_id], **changes)  # type: ignore[arg-type]
        return batch

    def check(self, new: NewJob) -> None:
        """Check that a new job's batch takes jobs.

        :raises InvalidJobData: if it has finished, or does not exist.
        """
        if new.batch_id is not None:
            batch = self.rows.get(new.batch_id)
            if batch is None or batch.finished_at is not None:
                raise batch_rows.refusal(new.batch_id, batch)

    def add(self, batch_id: int) -> None:
        """Count a new job."""
        self.change(batch_id, total=self.rows[batch_id].total + 1)

    def count_end(self, batch_id: int, *, failed: bool) -> Batch:
        """Count the end of a job."""
        batch = self.rows[batch_id]
        return self.change(batch_id, succeeded=batch.succeeded + (not failed), failed=batch.failed + failed)

    def reopen(self, batch_id: int) -> Batch:
        """Count a failed job as unfinished again."""
        return self.change(batch_id, failed=self.rows[batch_id].failed - 1, finished_at=None)

    def following(self, jobs: Iterable[JobRequest]) -> list[int]:
        """Return the jobs that follow the unfinished batches of these jobs."""
        batches = [self.rows[job.batch_id] for job in jobs if job.batch_id in self.rows]
        return [batch.then_id for batch in batches if batch.then_id is not None and batch.finished_at is None]

    def before(self, job_id: int) -> Batch | None:
        """Find the batch that a job follows."""
        return next((batch for batch in self.rows.values() if batch.then_id == job_id), None)
