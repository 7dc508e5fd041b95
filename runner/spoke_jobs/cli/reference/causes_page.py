"""Generate docs/reference/causes.md: why jobs and tasks fail, and what jobs wait for."""

from __future__ import annotations

from collections.abc import Iterator

from spoke_jobs.cli.reference.docstrings import banner, sentence, table
from spoke_jobs.contract.causes import Cause, CauseClass
from spoke_jobs.contract.retry import (
    DEFAULT_BUDGET,
    HELD_DELAY_SECONDS,
    LONGEST_HELD_DELAY_SECONDS,
    OWN_BACKOFF,
)
from spoke_jobs.contract.task_causes import COUNTED, TaskCause
from spoke_jobs.contract.wait_reasons import WAITS, Giver, WaitReason
from spoke_jobs.job_options import TaskOptions
from spoke_jobs.model import TASK_LOSSES
from spoke_jobs.shared.attribute_docs import of_attributes

_HEADINGS = ("cause", "meaning", "knowable when", "what to do", "while it is tried again", "tried again by default")
_TASK_HEADINGS = (_HEADINGS[0], "class", *_HEADINGS[1:4], _HEADINGS[5])
_COUNTS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}


def page() -> str:
    """Generate the page."""
    sections = "\n\n".join(_section(kind) for kind in CauseClass)
    rows = [(f"`{reason}`", reason.meaning, reason.advice, reason.remedy) for reason in WAITS.values()]
    of_why = [
        (f"`{reason}`", f"`{reason.code.value}`", reason.meaning, reason.group_advice)
        for reason in WaitReason
        if reason.row.given_by is Giver.WHY
    ]
    of_tasks = [
        (f"`{cause}`", cause.cause_class.value, cause.meaning, cause.knowable, cause.advice, _task_tried_again(cause))
        for cause in TaskCause
    ]
    return f"""{banner("spoke_jobs.contract: causes, task_causes, retry, wait_reasons")}
# Causes and reasons

A cause says why a job or a task failed. A reason says what a job waits for. Each is one word, which is the same in the
ledger, on the SpokeJob (`status.cause`) and in metrics. `spoke-jobs why ID` prints it with advice, and so does
[`kubectl describe spokejob NAME`](../how-to/kubectl.md). `spoke-jobs outbox show ID` does so for a task. In the advice
on this page, `ID` stands for the id of the job or task, and `CONTAINER` for the container that a job waits for.

## Why an attempt or a job ended

Every cause belongs to a class. A job ends when it has as many failed attempts of one class as the budget of the class
says. *Tried again by default* shows what happens with the default budget. A [retry policy](../how-to/retries.md) can
change the budget. `Discard`, and an exception that the policy lists in `never`, end the job whatever the budget.

Ends of the classes `disruption` and `dependency` are not charged to the job. They leave the budgets of the other
classes and the policy's backoff as they are. Each of the two has waits of its own. Each also has a high bound, so that
no job is tried again forever.

*Knowable when* is the first sign of the cause under `kubernetes`. Some obstacles can be removed: a missing Secret, or
an image that can't be pulled. The job then waits until its start timeout. If the obstacle is removed in time, the job
continues. Otherwise it ends without another attempt, whatever the budget; then remove the obstacle, and start the job
again with `spoke-jobs retry ID`.

{sections}

## What a SpokeJob waits for

While the outcome is `Waiting`, `status.cause` says what the job waits for:

- A cause of the tables above names an obstacle. Unless the obstacle is removed, the job ends with that cause. But if
  `status.nextAttemptAt` is set, the cause is that of the last attempt, and the job waits for its next one.
- A reason of the table below means that nothing is wrong.

`{WaitReason.BACKING_OFF}` is only a reason of the condition `Admitted`. `{WaitReason.POD_PENDING}` is only a reason of
the condition `Running`; `status.cause` is empty then.

`status.waiting` gives the reason as fields: `code` and, if they apply, `holder`, `object`, `running`, `limit`, `since`,
`endsAt` and `retryAt`. The operator writes them when the code changes, so they show the values of that moment.

{table(("reason", "meaning", "what to do", "if the job has ended as `StartTimeout`"), rows)}

Limits, turns and locks: [limits](../how-to/limits.md).

## What else `why` says

Only `spoke-jobs why` gives these reasons, from the ledger and from what it finds in the cluster. *It* is the job. The
code is that of [the output](cli.md#codes-of-why). The advice is for a group of jobs,
and `TYPE` stands for their type.

{table(("reason", "code", "meaning", "what to do"), of_why)}

## Why a task did not succeed

A task has no retry policy. A run that ends with a cause of the class `error` or `timeout` counts against the
`attempts` of the task's declaration. A cause of the class `uncharged` does not count: the task is sent again, to
another replica if there is one. After any other cause the task has failed for good. The outbox keeps such a task;
without the outbox, it is only in the log. See [tasks](../how-to/tasks.md).

{table(_TASK_HEADINGS, of_tasks)}
"""


def _task_tried_again(cause: TaskCause) -> str:
    if cause.cause_class in COUNTED:
        usual = TaskOptions()
        return (
            f"yes, after {usual.backoff_seconds:g} s, then twice as long each time, up to "
            f"{usual.backoff_max_seconds:g} s; the {_COUNTS[usual.attempts]} failure is final"
        )
    if cause.cause_class is CauseClass.UNCHARGED:
        return "yes; no limit"
    counted = {
        TaskCause.WORKER_LOST: f"no: {TASK_LOSSES} replicas have died",
        TaskCause.REFUSED_BY_PROXY: f"no: it was refused {TASK_LOSSES} times while others got through, or for an hour",
    }
    return counted.get(cause, "no")


def _section(kind: CauseClass) -> str:
    said = of_attributes(CauseClass)
    rows = [
        (f"`{cause}`", cause.meaning, cause.knowable, cause.advice, _meanwhile(cause), _tried_again(cause))
        for cause in _of_class(kind)
    ]
    return f"### {kind.value}\n\n{sentence(said[kind.name])}\n\n{table(_HEADINGS, rows)}"


def _meanwhile(cause: Cause) -> str:
    """Return the advice for the time until the next attempt; empty if no attempt follows this cause by default."""
    waits = cause.before_an_attempt or cause.waited_for
    return "" if waits or DEFAULT_BUDGET.get(cause.cause_class) == 1 else cause.meanwhile


def _of_class(kind: CauseClass) -> Iterator[Cause]:
    return (cause for cause in Cause if cause.cause_class is kind)


def _tried_again(cause: Cause) -> str:
    if cause.before_an_attempt:
        return "no: there is no attempt yet; the job waits for a fix until its start timeout"
    if cause.waited_for:
        return "no: the attempt waits for a fix until its start timeout"
    if cause.cause_class is CauseClass.UNCHARGED:
        return _uncharged(cause)
    budget = DEFAULT_BUDGET[cause.cause_class]
    if (own := OWN_BACKOFF.get(cause.cause_class)) is not None:
        waits = f"after {own.base:g} s, then twice as long each time, up to {own.maximum / 60:g} min"
        return f"yes, {waits}; the {budget}th such end is final"
    return "no" if budget == 1 else f"yes; the {_COUNTS.get(budget, f'{budget}th')} failure is final"


def _uncharged(cause: Cause) -> str:
    shortest, longest = f"{HELD_DELAY_SECONDS:g} s", f"{LONGEST_HELD_DELAY_SECONDS:g} s"
    match cause:
        case Cause.RETRY_LATER:
            return "yes, at the time that the job asked for; no limit"
        case Cause.QUEUE_HELD | Cause.START_PAUSED:
            return f"yes, after {shortest}, then twice as long each time, up to {longest}; no limit"
        case _:
            return f"yes, after {shortest}; no limit"
