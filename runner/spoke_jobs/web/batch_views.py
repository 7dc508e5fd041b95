"""What the page *Batches* shows. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from spoke_jobs.explain.words import line
from spoke_jobs.ledger.job_batch import Batch
from spoke_jobs.ledger.reading.dashboard_queries import BATCHES_LOOKED_THROUGH, BatchPage
from spoke_jobs.web.job_search import address
from spoke_jobs.web.view_parts import When
from spoke_jobs.web.viewer import JobAction, Viewer

_NOT_ALL = f"{BATCHES_LOOKED_THROUGH:,} batches were looked through for this page. Older ones may be listed, too."


@dataclass(frozen=True, slots=True)
class BatchItem:
    """A batch."""

    batch_id: int
    name: str
    state: str
    failures: str
    """How many of its jobs have failed, once it is finished; empty if none has."""
    total: str
    succeeded: str
    failed: str
    percent: int
    """How many of its jobs have ended."""
    then_id: int | None
    """The job that follows it; None if there is none, or the viewer may not see it."""
    opened: When
    finished: When | None
    jobs: str
    """The address of the list of its jobs."""
    retry: str
    """The address of the preview of a retry of its failed jobs; empty if there are none, or the viewer may not."""
    can_close: bool
    can_cancel: bool


@dataclass(frozen=True, slots=True)
class BatchList:
    """The page."""

    items: tuple[BatchItem, ...]
    name: str
    """The pattern for names that was given."""
    first: str
    """The address of the newest batches; empty if these are shown."""
    older: str
    """The address of the page with older batches; empty if there is none."""
    note: str
    """Which batches were not looked at; empty if all were, or if the next page looks at them."""


def batch_list(
    page: BatchPage,
    visible: Collection[int],
    viewer: Viewer,
    *,
    name: str,
    newest: bool,
) -> BatchList:
    """Describe batches.

    :param newest: whether these are the newest ones.
    :param visible: the jobs that follow them, as far as the viewer may see them.
    """
    before = page.batches[-1].id if page.more else page.looked_down_to
    return BatchList(
        tuple(_item(batch, page.now, visible, viewer) for batch in page.batches),
        name,
        "" if newest else address("/batches", name=name),
        address("/batches", name=name, before=before) if before is not None else "",
        _NOT_ALL if page.looked_down_to is not None and not page.more else "",
    )


def _item(batch: Batch, now: datetime, visible: Collection[int], viewer: Viewer) -> BatchItem:
    ended = batch.succeeded + batch.failed
    may = JobAction.CANCEL in viewer.actions and batch.finished_at is None
    retries = JobAction.RETRY in viewer.actions and batch.failed > 0
    return BatchItem(
        batch.id,
        line(batch.name),
        batch.state,
        f"{batch.failed:,} failed" if batch.failed and batch.finished_at is not None else "",
        f"{batch.total:,}",
        f"{batch.succeeded:,}",
        f"{batch.failed:,}",
        min(100 * ended // batch.total, 100) if batch.total > 0 else 0,
        batch.then_id if batch.then_id in visible else None,
        When.of(batch.created_at, now),
        When.of(batch.finished_at, now) if batch.finished_at is not None else None,
        address("/jobs", batch=batch.id),
        address("/bulk/retry", batch=batch.id) if retries else "",
        can_close=may and batch.closed_at is None,
        can_cancel=may,
    )
