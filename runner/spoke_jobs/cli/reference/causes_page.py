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

Why a job failed, or what it waits for: one word, the same in the ledger, on the SpokeJob (`status.cause`) and in
metrics. `spoke-jobs why ID` says it with the advice; in the cluster, `kubectl describe spokejob NAME` does. How to ask
the cluster: [kubectl](../how-to/kubectl.md).

## Why an attempt or a job ended

Every cause belongs to a class. A job ends once a class has as many failed attempts as its budget says; the last column
says what that comes to [where nobody has said otherwise](../how-to/retries.md). An exit code of `spoke-jobs run` that
says "for good" ends the job whatever the class (`Discard`, an exception of the policy's `never`).

*Knowable when* is what first tells of it, under `kubernetes`. What may heal is waited for: a missing Secret or an
image that can't be had is the reason of a job that waits, and if it is mended before the start timeout, the job goes
on; if it isn't, the job ends: it is not given the same time again, whatever the budget.

{sections}

## What a SpokeJob waits for

While the outcome is `Waiting`, `status.cause` says for what. It may be one of the causes above: the obstacle that the
job will end with unless it is mended, or the end of the attempt before, until the next one is due
(`status.nextAttemptAt`). Otherwise it is one of these, and nothing is at fault. `{WaitReason.BACKING_OFF}` is the
reason of the condition `Admitted` alone, and `{WaitReason.POD_PENDING}` of the condition `Running`, during which
`status.cause` is empty.

`status.waiting` has the same as fields: `code`, and where they apply `holder`, `object`, `running`, `limit`, `since`
and `retryAt`. They are as they were when it began to wait for this: a change of the code alone is written.

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
