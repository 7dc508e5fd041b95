"""The batches of an SQL ledger: a transaction for each statement."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine

from spoke_jobs.ledger.dependencies import batch_rows
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.job_batch import ANY_BATCH, Batch, BatchFilter
from spoke_jobs.ledger.lifecycle import dispatching, finish, retries
from spoke_jobs.model import JobState, NewJob


class SqlBatches:
    """The part of :class:`spoke_jobs.ledger.sql_ledger.SqlLedger` that is about batches."""

    engine: Engine

    def open_batch(self, name: str, then: NewJob | None = None, on_failed: str = "fail") -> Batch:
        """Open a batch."""
        with self.engine.begin() as connection:
            return dispatching.open_batch(connection, name, then, on_failed)

    def close_batch(self, batch_id: int, by: str = "") -> Batch | None:
        """Close a batch."""
        with self.engine.begin() as connection:
            return finish.close_batch(connection, batch_id, by)

    def cancel_batch(self, batch_id: int, by: str) -> Batch | None:
        """Close a batch, and cancel the job that follows it (``retries.cancel_batch``)."""
        with self.engine.begin() as connection:
            return retries.cancel_batch(connection, batch_id, by)

    def unfinished_in_batch(self, batch_id: int) -> Sequence[tuple[int, str, JobState]]:
        """List the id, type and state of the batch's jobs that have not ended, oldest first."""
        with self.engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            return batch_rows.unfinished_jobs(connection, batch_id)

    def batch(self, batch_id: int) -> Batch | None:
        """Get a batch."""
        with self.engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            return batch_rows.find(connection, batch_id)

    def batches(self, limit: int = 100, which: BatchFilter = ANY_BATCH) -> Sequence[Batch]:
        """List the newest batches that pass the filter, newest first."""
        with self.engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            return batch_rows.newest(connection, limit, which)
