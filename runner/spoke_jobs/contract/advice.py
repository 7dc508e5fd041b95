"""What a person can do: about a job that has ended, and about groups of jobs that wait or have failed for one reason.

The advice about a job that has ended is that of its cause, or of what it waited for until its end.

An attempt that ends because it did not start has one cause, `StartTimeout`, and many possible reasons. The field
`reason` of its status holds the reason. The message names it, too, for people.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from datetime import datetime
from signal import Signals

from spoke_jobs.contract.cause_row import TRIED_AGAIN, CauseRow, with_id
from spoke_jobs.contract.causes import CAUSES, CHECK_IMAGE, Cause
from spoke_jobs.contract.executors import Executor
from spoke_jobs.contract.names import is_object_name
from spoke_jobs.contract.start_rate import StartRate
from spoke_jobs.contract.wait_reasons import LONG, NEED_ATTENTION, WAITS, Wait, WaitReason
from spoke_jobs.contract.wait_text import says_all

_MESSAGE_READ = "Fix the job or its input, then `spoke-jobs retry ID`."
"""The advice on `JobError` for a reader who sees the message."""
_BY_THEMSELVES = "Once that is corrected, the jobs start by themselves."
_RAISE_MEMORY = {
    Executor.WORKERS: (
        "the memory that it may have in a worker (`spoke-jobs worker --job-memory`, or the job's option `resources`)"
    ),
    Executor.CLUSTER: "the memory limit of its container (in its PodTemplate, or the job's option `resources`)",
}
_LESS_MEMORY = "or make it process less at a time; then `spoke-jobs retry ID`."
_START_AGAIN = "Then `spoke-jobs retry ID`."
_GIVEN_TO_WAITING_JOBS = (Cause.INIT_FAILED, Cause.CONTAINER_CANNOT_RUN, Cause.CONTAINER_RUNTIME_FAILED)
"""Attempts may end with these causes before their start timeout. A job may also wait because of them."""
_CRASHES = frozenset({"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"})
"""The signals that a process gets because of what it does itself."""
QUOTA_OF_ZERO = "Raise the quota: while it is 0, no job can start here. Then jobs start by themselves."
"""The advice on `QuotaExceeded` if the quota is zero, so that the end of other pods does not help."""


def with_reason(code: str, text: str) -> str:
    """Return the message about an attempt that ended while it waited: the reason, then what Kubernetes said."""
    return f"{code}: {text}" if text else code


def failed_batch_advice(batch_id: int) -> str:
    """Return the advice for a job that was not started because jobs of the batch before it have failed."""
    return (
        f"Retry the failed jobs of batch {batch_id}: `spoke-jobs retry --failed --batch {batch_id}`; if somebody "
        "cancelled them, with `--cause Cancelled`. This job then waits for them again."
    )


def advice(
    cause: str,
    reason: str,
    job_id: int | None,
    error_type: str = "",
    *,
    executor: Executor | None = None,
    with_message: bool = False,
) -> str:
    """Return the advice for a job that has ended; empty if this release does not know the cause.

    :param reason: what the job waited for until it ended as `StartTimeout`; empty if that is not known.
    :param error_type: that of the attempt that ended it: of one that was killed in a worker, the signal.
    :param executor: who started that attempt; None if that is not known.
    :param with_message: whether the reader sees the job's message beside the advice.
    """
    if cause == Cause.JOB_ERROR and with_message:
        return with_id(_MESSAGE_READ, job_id)
    if cause == Cause.OUT_OF_MEMORY and executor in _RAISE_MEMORY:
        return with_id(f"Raise {_RAISE_MEMORY[executor]}, {_LESS_MEMORY}", job_id)
    if cause == Cause.KILLED and error_type in Signals.__members__:
        return with_id(_after_signal(error_type), job_id)
    waited = WAITS.get(reason) if cause == Cause.START_TIMEOUT else None
    if waited is not None and waited.remedy:
        return with_id(waited.remedy, job_id)
    known = CAUSES.get(cause)
    if known is None:
        return ""
    text = known.advise(job_id)
    return f"{text} {with_id(_START_AGAIN, job_id)}" if is_given_to_waiting_jobs(known) else text


def ledger_group_advice(
    reason: WaitReason, *, job_id: int, job_type: str, cause: str, scope: str = "", with_message: bool = False
) -> str:
    """Return the action for a group of jobs that wait outside of the cluster; empty if nothing needs to be done.

    :param job_id: the job that they wait for, or one of them.
    :param cause: how their last attempts failed; empty if they did not.
    :param scope: the scope of the pause of the ledger that holds them back; else empty.
    :param with_message: whether the reader sees the message of one of the jobs beside the advice.
    """
    if cause == Cause.JOB_ERROR and with_message:
        return TRIED_AGAIN
    if (failed := CAUSES.get(cause)) is not None:
        text = failed.advise(job_id, tried_again=True)
        return text if with_message else _with_message(text, f"why {job_id}")
    text = with_id(reason.group_advice, job_id)
    return text.replace("TYPE", job_type).replace("SCOPE", shlex.quote(scope))


def limit_advice(wait: Wait, scope: str) -> str:
    """Return the advice for jobs that a limit or a rate of the ledger holds back.

    :param wait: what they wait for.
    :param scope: the scope of the limit.
    """
    command = f"spoke-jobs limits set {shlex.quote(scope)}"
    if wait.code == WaitReason.RATE_LIMIT_REACHED:
        rate = StartRate.from_text(wait.object).doubled
        burst = f" --burst {rate.burst}" if rate.burst != 1 else ""
        return f"No action is needed. To start jobs sooner: `{command} --rate {rate.text}{burst}`."
    command = f"`{command} --max-running {max(wait.limit or 0, wait.running or 0) + 1}`"
    if wait.limit == 0:
        return f"Nothing of the scope starts until somebody raises the limit: {command}."
    return f"No action is needed. To start jobs sooner: {command}."


def more_pauses_advice(scopes: Iterable[str]) -> str:
    """Return the advice for jobs that further pauses hold back.

    :param scopes: their scopes.
    """
    commands = " and ".join(f"`spoke-jobs resume {shlex.quote(scope)}`" for scope in scopes)
    return f"The jobs stay paused until this is done, too: {commands}."


def room_advice(scope: str, most: int) -> str:
    """Return the advice for due jobs of which most are of one scope.

    :param most: how many of these may run at once, so that the others find a place.
    """
    limit = f"`spoke-jobs limits set {shlex.quote(scope)} --max-running {most}`"
    return f"{WaitReason.WORKERS_BUSY.group_advice} To leave room for others: {limit}."


def waiting_advice(wait: Wait, job_id: int, now: datetime, namespace: str = "") -> str:
    """Return the advice for a SpokeJob that waits; empty if this release does not know the reason.

    :param wait: what it waits for, with Kubernetes' message if the reader sees that.
    :param namespace: that of the SpokeJob; empty if it is not known.
    """
    if wait.code == Cause.IMAGE_UNAVAILABLE and wait.detail and "pull secret" not in wait.detail.lower():
        return CHECK_IMAGE
    if (reason := WAITS.get(wait.code)) is not None:
        if wait.code == WaitReason.QUOTA_EXCEEDED and any(use.allows_nothing for use in wait.quota):
            return QUOTA_OF_ZERO
        lasts = wait.since is not None and now - wait.since >= LONG
        if lasts and wait.code == WaitReason.QUOTA_EXCEEDED:
            return _with_quota(reason.row.lasting, wait.object, namespace)
        return with_id((reason.row.lasting if lasts else "") or reason.advice, job_id, wait.object)
    cause = CAUSES.get(wait.code)
    return cause.advise(job_id) if cause is not None else ""


def cluster_group_advice(wait: Wait, job_id: int, now: datetime, namespace: str = "") -> str:
    """Return the action for a group of SpokeJobs that wait; empty if this release does not know the reason.

    :param wait: what the one waits for that has waited for longest, with Kubernetes' message if the reader sees that.
    :param job_id: one of the jobs.
    :param namespace: that of the SpokeJobs; empty if it is not known.
    """
    text = waiting_advice(wait, job_id, now, namespace)
    if wait.code == WaitReason.PODS_NOT_STARTING and (wait.object in CAUSES or wait.object in NEED_ATTENTION):
        text = f"{waiting_advice(Wait(wait.object, detail=wait.detail), job_id, now)} {_BY_THEMSELVES}"
    elif wait.code in CAUSES and text:
        text = f"{text} {_BY_THEMSELVES}"
    return text if says_all(wait) else _with_message(text, f"why {job_id}")


def failed_group_advice(
    cause: str,
    fingerprint: str,
    job_id: int,
    *,
    job_type: str = "",
    error_type: str = "",
    executor: Executor | None = None,
    with_message: bool = False,
    batch_id: int | None = None,
) -> str:
    """Return the action for a group of failed jobs; empty if this release does not know the cause.

    :param fingerprint: as the row has it. A hostile job may have written it, and people paste the command.
    :param job_id: one of them.
    :param job_type: their type; empty if they have several.
    :param error_type: that of the attempt that ended this job: of one that was killed in a worker, the signal.
    :param executor: who started that attempt; None if that is not known.
    :param with_message: whether the reader sees the job's message beside the advice.
    :param batch_id: the batch whose failed jobs kept the only job of the group from being started.
    """
    if batch_id is not None:
        return failed_batch_advice(batch_id)
    which = f"--fingerprint {shlex.quote(fingerprint)}" if fingerprint else f"--cause {shlex.quote(cause)}"
    if job_type and "*" not in job_type:  # it would be read as a pattern
        which = f"--type {shlex.quote(job_type)} {which}"
    text = advice(cause, "", None, error_type, executor=executor, with_message=with_message)
    parts = (text if with_message else _with_message(text, "show ID")).split("`spoke-jobs retry ID`")
    return f"`spoke-jobs retry --failed {which}`".join(with_id(part, job_id) for part in parts)


def pause_advice(scope: str, cause: str) -> str:
    """Return what keeps further jobs of a scope from failing until the cause is removed."""
    return (
        f"Until then, no more of them fail after `spoke-jobs pause {shlex.quote(scope)} --reason {shlex.quote(cause)}`."
    )


def _after_signal(name: str) -> str:
    """Return the advice for a job whose process was killed by the signal."""
    if name in _CRASHES:
        return (
            f"Native code of the job has crashed ({name}). Read its output: `spoke-jobs show ID`; find the library "
            "that crashes, then `spoke-jobs retry ID`."
        )
    pressure = " (memory pressure?)" if name == "SIGKILL" else ""
    return f"Find out what sends {name}{pressure}, then `spoke-jobs retry ID`."


def _with_quota(text: str, quota: str, namespace: str) -> str:
    """Name the ResourceQuota and the namespace in the commands."""
    where = f" -n {namespace}" if is_object_name(namespace) else ""
    named = f"resourcequota {quota}{where}" if is_object_name(quota) else f"resourcequota{where}"
    return text.replace("resourcequota QUOTA", named).replace("get pods", f"get pods{where}")


def _with_message(text: str, command: str) -> str:
    """Say which command shows the message that the advice for a group of jobs mentions. Groups show none."""
    if not re.search(r"\bmessage\b", text) or "`spoke-jobs show " in text:
        return text
    return f"`spoke-jobs {command}` shows the message. {text}"


def is_given_to_waiting_jobs(cause: CauseRow) -> bool:
    """Whether a job that waits gets the same advice. It continues by itself, and one that has ended does not."""
    return cause.waited_for or cause.before_an_attempt or cause in _GIVEN_TO_WAITING_JOBS
