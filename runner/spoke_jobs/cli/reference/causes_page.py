"""Generate docs/reference/causes.md: why jobs end, and what they wait for."""

from __future__ import annotations

from collections.abc import Iterator

from spoke_jobs.cli.reference.docstrings import banner, of_attributes, sentence, table
from spoke_jobs.contract.causes import Cause, CauseClass
from spoke_jobs.contract.retry import DEFAULT_BUDGET, HELD_DELAY_SECONDS, LONGEST_HELD_DELAY_SECONDS
from spoke_jobs.contract.wait_reasons import WaitReason

_HEADINGS = ("cause", "meaning", "knowable when", "what to do", "tried again by default")
_COUNTS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}


def page() -> str:
    """Generate the page."""
    sections = "\n\n".join(_section(kind) for kind in CauseClass)
    rows = [(f"`{reason}`", reason.meaning, reason.advice) for reason in WaitReason]
    return f"""{banner("spoke_jobs.contract: causes, retry and waits")}
# Causes and reasons

A cause says why a job failed, a reason what it waits for. Each is one word, the same in the ledger, on the SpokeJob
(`status.cause`) and in metrics. `spoke-jobs why ID` prints it with advice. In the cluster,
[`kubectl describe spokejob NAME`](../how-to/kubectl.md) does.

## Why an attempt or a job ended

Every cause belongs to a class. A job ends when it has as many failed attempts of one class as the budget of the class
says. *Tried again by default* is what the default budget means for the cause; a [retry policy](../how-to/retries.md)
can change it. `Discard`, and an exception that the policy lists in `never`, end the job whatever the budget.

*Knowable when* is the first sign of the cause under `kubernetes`. If the obstacle can be removed, the job waits for
that: a missing Secret, or an image that can't be pulled. If it is removed before the start timeout, the job goes on.
Otherwise the job ends. It does not get the start timeout a second time, whatever the budget.

{sections}

## What a SpokeJob waits for

While the outcome is `Waiting`, `status.cause` says what the job waits for:

- A cause of the tables above is an obstacle, with which the job will end unless it is removed. Or it is the cause of
  the last attempt, while the job waits for its next one (`status.nextAttemptAt`).
- A reason of the table below means that nothing is wrong.

`{WaitReason.BACKING_OFF}` is only a reason of the condition `Admitted`. `{WaitReason.POD_PENDING}` is only a reason of
the condition `Running`; `status.cause` is empty then.

`status.waiting` has the same as fields: `code` and, where they apply, `holder`, `object`, `running`, `limit`, `since`
and `retryAt`. They are written when the code changes, and keep the values of that moment.

{table(("reason", "meaning", "what to do"), rows)}

Limits, turns and locks: [limits](../how-to/limits.md).
"""


def _section(kind: CauseClass) -> str:
    said = of_attributes(CauseClass)
    rows = [
        (f"`{cause}`", cause.meaning, cause.knowable, cause.advice, _tried_again(cause)) for cause in _of_class(kind)
    ]
    return f"### {kind.value}\n\n{sentence(said[kind.name])}\n\n{table(_HEADINGS, rows)}"


def _of_class(kind: CauseClass) -> Iterator[Cause]:
    return (cause for cause in Cause if cause.cause_class is kind)


def _tried_again(cause: Cause) -> str:
    if cause.before_an_attempt:
        return "no: there is no attempt yet, it is waited for until the start timeout"
    if cause.waited_for:
        return "no: it is waited for until the start timeout"
    if cause.cause_class is CauseClass.UNCHARGED:
        return _uncharged(cause)
    budget = DEFAULT_BUDGET[cause.cause_class]
    return "no" if budget == 1 else f"yes; the {_COUNTS.get(budget, f'{budget}th')} is final"


def _uncharged(cause: Cause) -> str:
    shortest, longest = f"{HELD_DELAY_SECONDS:g} s", f"{LONGEST_HELD_DELAY_SECONDS:g} s"
    match cause:
        case Cause.RETRY_LATER:
            return "yes, at the time that it asked for; no bound"
        case Cause.QUEUE_HELD:
            return f"yes, after {shortest}, then twice as long each time, up to {longest}; no bound"
        case _:
            return f"yes, after {shortest}; no bound"
