"""Write dispatched jobs, with the jobs that they depend on."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from sqlalchemy import Connection

from spoke_jobs.ledger.dependencies import batch_rows, dependency_rows
from spoke_jobs.ledger.dependencies.dependency_rules import Edge, Needed, check_batch, failure_of, standing
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.lifecycle.finish import give_up
from spoke_jobs.ledger.lifecycle.inserts import insert_jobs
from spoke_jobs.model import JobRequest, NewJob


def dispatch_jobs(connection: Connection, new: Sequence[NewJob]) -> list[JobRequest]:
    """Write jobs, in the order given. A job that depends on unfinished ones is blocked.

    If a job that another one depends on has failed already, the other one fails at once.

    :raises InvalidJobData: if a job depends on one that does not exist.
    :raises UniquenessConflict: see :func:`spoke_jobs.ledger.lifecycle.inserts.insert_jobs`.
    """
    if not any(job.after or job.batch_id is not None for job in new):
        return insert_jobs(connection, new)
    needed = dependency_rows.find_needed(connection, new)
    by_id = {job.id: job for job in needed.values()}
    with_uids = [replace(job, uid=job.uid or uuid.uuid4()) for job in new]
    edges = {job.uid: _edges(job, needed) for job in with_uids}
    found = {uid: standing(of_job, by_id) for uid, of_job in edges.items()}
    failed_of = {uid: one.failed for uid, one in found.items() if one.failed is not None}
    _check_batches(connection, with_uids, edges)
    counted = {uid: {*one.open, *([one.failed.id] if one.failed else ())} for uid, one in found.items()}
    written = insert_jobs(connection, [_counted(job, found[job.uid].waits) for job in with_uids])
    # Leave out a row of an earlier dispatch, which has the unique key.
    ids = {row.uid: row.id for row in written if row.uid in edges}
    dependency_rows.record(
        connection,
        [
            (edge._replace(job_id=job_id), edge.needs_id in counted[uid])
            for uid, job_id in ids.items()
            for edge in edges[uid]
        ],
    )
    batch_rows.add(connection, (job for job in with_uids if job.uid in ids))
    return [
        give_up(connection, row.id, failure_of(failed)) if (failed := failed_of.get(row.uid)) is not None else row
        for row in written
    ]


def _check_batches(connection: Connection, new: Sequence[NewJob], edges: Mapping[UUID | None, Sequence[Edge]]) -> None:
    """Refuse jobs of a batch that depend on the job which follows it."""
    needs: dict[int, set[int]] = {}
    for job in new:
        if job.batch_id is not None and (of_job := edges[job.uid]):
            needs.setdefault(job.batch_id, set()).update(edge.needs_id for edge in of_job)
    for batch_id, ids in needs.items():
        batch = batch_rows.find(connection, batch_id)
        if batch is not None and batch.then_id is not None:
            check_batch(batch_id, batch.then_id, ids, partial(_waiting_for, connection))


def _waiting_for(connection: Connection, ids: Collection[int]) -> set[int]:
    return {*dependency_rows.dependents(connection, ids), *batch_rows.following(connection, ids)}


def open_batch(connection: Connection, name: str, then: NewJob | None, on_failed: str) -> Batch:
    """Open a batch, and write the job that follows it, which is blocked until all jobs of the batch have ended."""
    batch = batch_rows.create(connection, name, on_failed)
    if then is None:
        return batch
    (row,) = dispatch_jobs(connection, [batch_rows.held(then)])
    return batch_rows.follow(connection, batch, row)


def _counted(job: NewJob, waits: int) -> NewJob:
    in_batch = job.batch_id is not None
    return replace(
        job, open_dependencies=job.open_dependencies + waits, batch_open=in_batch, awaited=job.awaited or in_batch
    )


def _edges(job: NewJob, needed: dict[int | UUID, Needed]) -> list[Edge]:
    return [Edge(0, other, job.after_failed == "run") for other in sorted({needed[one].id for one in job.after})]
