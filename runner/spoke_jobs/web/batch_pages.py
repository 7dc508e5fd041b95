"""The page *Batches*, and what closes and cancels them. These functions block."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.job_batch import Batch, BatchFilter
from spoke_jobs.ledger.reading.dashboard_queries import BATCHES_LOOKED_THROUGH, BatchPage, DashboardQueries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.shared.clean_text import is_storable
from spoke_jobs.web.answers import NO_SUCH_BATCH, Acting, Answer, Asked, Page, Reading, Redirect, refusal
from spoke_jobs.web.job_search import address
from spoke_jobs.web.query_values import TEXT_LIMIT, whole_number
from spoke_jobs.web.view_parts import Listing, When
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


def batch_list(
    page: BatchPage,
    visible: Collection[int],
    viewer: Viewer,
    *,
    name: str,
    newest: bool,
) -> Listing:
    """Describe batches.

    :param newest: whether these are the newest ones.
    :param visible: the jobs that follow them, as far as the viewer may see them.
    """
    before = page.batches[-1].id if page.more else page.looked_down_to
    return Listing(
        tuple(_item(batch, page.now, visible, viewer) for batch in page.batches),
        {"name": name} if name else {},
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


PER_PAGE = 50
_HERE = "/batches"
_BACK = (_HERE, "Back to the batches")
SAID = {"closed": "The batch is closed: it finishes with the last of its jobs."}
"""What the page says after an action, by a word in its address."""


class BatchPages:
    """Reads and changes batches."""

    def __init__(self, ledger: SqlLedger, queries: DashboardQueries) -> None:
        self._ledger = ledger
        self._queries = queries

    def routes(self) -> Iterable[Reading | Acting]:
        """Yield the requests that this answers."""
        yield Reading(_HERE, self._batches)
        yield Acting(f"{_HERE}/{{batch_id}}/close", self._close, JobAction.CANCEL)
        yield Acting(f"{_HERE}/{{batch_id}}/cancel", self._cancel, JobAction.CANCEL)

    def _batches(self, viewer: Viewer, asked: Asked) -> Answer:
        name = asked.given.get("name", "").strip()
        name = name if is_storable(name) else ""
        before = whole_number(asked.given.get("before", ""), 1, LARGEST_ID)
        batch_id = whole_number(asked.given.get("id", ""), 1, LARGEST_ID)
        which = BatchFilter(name[:TEXT_LIMIT] or None, id=batch_id, before=before, organizations=viewer.organizations)
        page = self._queries.batches(which, PER_PAGE)
        follow = {batch.then_id for batch in page.batches if batch.then_id is not None}
        visible = self._queries.selected_of(follow, viewer.narrowed())
        view = batch_list(page, visible, viewer, name=name, newest=before is None and batch_id is None)
        said = SAID.get(asked.given.get("said", ""), "")
        return Page("batches.html", {"title": "Batches", "view": view, "said": said}, live=True)

    def _close(self, viewer: Viewer, asked: Asked) -> Answer:
        batch = self._changeable(viewer, asked)
        if not isinstance(batch, Batch):
            return batch
        self._ledger.close_batch(batch.id, actor_name(line(viewer.name)))
        return Redirect(f"{_HERE}?said=closed")

    def _cancel(self, viewer: Viewer, asked: Asked) -> Answer:
        """Close a batch and cancel the job that follows it. Then show what cancels its jobs, of which there may be
        many."""
        batch = self._changeable(viewer, asked)
        if not isinstance(batch, Batch):
            return batch
        self._ledger.cancel_batch(batch.id, actor_name(line(viewer.name)))
        return Redirect(address("/bulk/cancel", batch=batch.id))

    def _changeable(self, viewer: Viewer, asked: Asked) -> Batch | Page:
        """Find an unfinished batch that the viewer may see, with the job that follows it; else say what is wrong."""
        batch_id = asked.id("batch_id")
        which = BatchFilter(id=batch_id, organizations=viewer.organizations)
        found = self._queries.batches(which, 1).batches if batch_id is not None else ()
        if not found:
            return refusal("Not found", NO_SUCH_BATCH, 404, *_BACK)
        (batch,) = found
        if batch.finished_at is not None:
            return refusal("Nothing was changed", "The batch has finished.", 409, *_BACK)
        if batch.then_id is not None and not self._queries.selected_of({batch.then_id}, viewer.narrowed()):
            return refusal("Nothing was changed", "You may not see the job that follows the batch.", 409, *_BACK)
        return batch
