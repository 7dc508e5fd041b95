"""What the page *Job* offers beside a reason of `why`: the form or the page that does what the advice says. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.reasons import Reason
from spoke_jobs.explain.words import line
from spoke_jobs.model import JobRequest
from spoke_jobs.web.job_search import address, encoded
from spoke_jobs.web.view_parts import form_path, limit_path
from spoke_jobs.web.viewer import JobAction, Viewer


class JobForm(StrEnum):
    """A form of the page that changes the job."""

    RUN_NOW = "run-now"
    PRIORITY = "priority"
    RESUME = "resume"
    SUSPEND = "suspend"
    CANCEL = "cancel"
    RETRY = "retry"


_RETRY_IS_NO_REMEDY = frozenset(
    {
        *(Cause.INVALID_RESULT, Cause.POD_FAILED, Cause.INVALID_PAYLOAD, Cause.NO_ROW, Cause.INVALID_SPEC),
        *(Cause.NAME_TAKEN, Cause.SPOKE_JOB_DELETED, Cause.PREEMPTED, Cause.DISCARDED, Cause.DEPENDENCY_FAILED),
        Cause.SUPERSEDED,
    }
)
"""Causes whose advice does not name the command that retries the job."""
_BY_REASON = {WaitReason.SUSPENDED: JobForm.RESUME, WaitReason.TAKEN: JobForm.CANCEL}
_ON_CLUSTER = frozenset({Code.CLUSTER, Code.TURN, Code.NO_OPERATOR, Code.NOT_SUBMITTED, Code.SPOKEJOB_GONE})
"""The page *Cluster* shows more about reasons with these codes."""


@dataclass(frozen=True, slots=True)
class ExplainedReason:
    """A reason of `why`, with its remedies."""

    reason: Reason
    form: JobForm | None = None
    """The form of this page that does what the advice says."""
    paused: str = ""
    """The scope of the pause that the viewer may end here; empty if there is none."""
    scope: str = ""
    """The same for the form, encoded."""
    links: tuple[tuple[str, str], ...] = ()
    """Where the dashboard does what the advice says, or shows more: addresses and texts."""


def explained_reasons(
    reasons: Iterable[Reason], job: JobRequest, viewer: Viewer, forms: Collection[JobForm]
) -> Iterable[ExplainedReason]:
    """Yield the reasons with their remedies.

    :param reasons: as the viewer may read them.
    :param forms: those that the job's state and the viewer's permissions allow. Each stands beside one reason at most.
    """
    left: set[JobForm | None] = set(forms)
    for reason in reasons:
        form = _form(reason, job)
        form = form if form in left else None
        left -= {form}
        paused = reason.scope if reason.waits_for is WaitReason.PAUSED and viewer.changes_limits else ""
        yield ExplainedReason(reason, form, line(paused), encoded(paused), tuple(_links(reason, viewer)))


def _form(reason: Reason, job: JobRequest) -> JobForm | None:
    match reason.code:
        case Code.FAILED:
            known = job.cause in CAUSES and job.cause not in _RETRY_IS_NO_REMEDY
            return JobForm.RETRY if known and reason.batch_id is None else None
        case Code.HOLDS_UP:
            return JobForm.CANCEL
        case _:
            return _BY_REASON.get(reason.waits_for) if reason.waits_for is not None else None


def _links(reason: Reason, viewer: Viewer) -> Iterable[tuple[str, str]]:
    if reason.batch_id is not None and JobAction.RETRY in viewer.actions:
        yield (
            address("/bulk/retry", batch=reason.batch_id),
            f"Retry the failed jobs of batch {reason.batch_id} (preview)",
        )
    if reason.scope and viewer.sees_all:
        scope = line(reason.scope)
        form = form_path(reason.scope, "limit") if reason.code is Code.LIMIT and viewer.changes_limits else ""
        if form:
            yield form, f"Change the limit {scope}"
        yield limit_path(reason.scope), f"{scope} among the limits"
    if viewer.sees_all and reason.advice and reason.code in _ON_CLUSTER and (reason.reason or reason.code is Code.TURN):
        yield "/cluster", "Cluster"
