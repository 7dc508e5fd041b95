"""The page *Batches*, and what closes and cancels them. These functions block."""

from __future__ import annotations

from collections.abc import Iterable

from spoke_jobs.contract.option_checks import LARGEST_ID
from spoke_jobs.explain.words import line
from spoke_jobs.ledger.audit.process_actor import actor_name
from spoke_jobs.ledger.job_batch import Batch, BatchFilter
from spoke_jobs.ledger.reading.dashboard_queries import DashboardQueries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.shared.clean_text import is_storable
from spoke_jobs.web import batch_views
from spoke_jobs.web.answers import NO_SUCH_BATCH, Acting, Answer, Asked, Page, Reading, Redirect, refusal
from spoke_jobs.web.job_search import address
from spoke_jobs.web.query_values import TEXT_LIMIT, whole_number
from spoke_jobs.web.viewer import JobAction, Viewer

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
        view = batch_views.batch_list(page, visible, viewer, name=name, newest=before is None and batch_id is None)
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
