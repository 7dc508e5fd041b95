"""What an attempt decides: whether this release can run its job, and how it ended. Pure."""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from types import TracebackType
from typing import Any

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.retry import RetryPolicy, qualified_name
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.errors import Discard, InvalidPayload, InvalidResult, RetryLater, Superseded, UnknownName
from spoke_jobs.execution.lease import StopReason
from spoke_jobs.ledger.engine import is_away, is_unreachable
from spoke_jobs.model import Claim, Failure, UnreadPayload
from spoke_jobs.payloads import JOB_LIMIT_BYTES, decode_versioned
from spoke_jobs.registry import Definition, Registry


def load_job(claim: Claim, registry: Registry) -> tuple[Definition, Any] | Failure:
    """The job's definition and its decoded payload, or the failure to record if this release cannot run it."""
    job = claim.job
    if isinstance(job.payload, UnreadPayload):
        text = f"the payload takes {job.payload.size:,} bytes, and {JOB_LIMIT_BYTES:,} is the limit for a job"
        return Failure(Cause.INVALID_PAYLOAD, text, for_good=True)
    try:
        definition = registry.jobs.get(job.job_type)
        payload = decode_versioned(
            job.job_type,
            definition.payload,
            job.payload,
            job.options.payload_version,
            definition.options.payload_version,
            definition.upgrade,
        )
    except UnknownName as error:
        return Failure(Cause.UNKNOWN_JOB_TYPE, str(error), for_good=True)
    except InvalidPayload as error:
        return Failure(Cause.INVALID_PAYLOAD, str(error), for_good=True)
    return definition, payload


class CancelledBy(Enum):
    """Who has cancelled the asyncio task that runs a job."""

    ITSELF = auto()
    ANOTHER_JOB = auto()


@dataclass(frozen=True, slots=True)
class Stopping:
    """Why the job may have ended early."""

    asked: bool = False
    """Whether the job was asked to stop (``ctx.cancelled``)."""
    cancel_requested: bool = False
    """Whether it was asked because somebody has cancelled it."""
    reason: StopReason | None = None
    """Why it was stopped; None if it was not."""
    task_cancelled_by: CancelledBy | None = None
    """None if the job has no asyncio task that others could cancel."""


def failure_after(error: BaseException, retry: RetryPolicy, stopping: Stopping) -> Failure:
    """Turn what a job raised into a failure. If it was stopped, that counts: the job may have raised something else."""
    if stopping.reason in (StopReason.CLAIM_LOST, StopReason.LEASE_EXPIRED):
        return Failure(Cause.SUPERSEDED, Cause.SUPERSEDED.meaning)
    if stopping.reason is StopReason.DATABASE_AWAY:
        return Failure(Cause.DATABASE_UNREACHABLE, Cause.DATABASE_UNREACHABLE.meaning)
    if stopping.reason is not None and (stopped := failure_of(stopping.reason)) is not None:
        where = traceback.format_exception(error) if stopping.reason is StopReason.TIMEOUT else ()
        return replace(stopped, output_tail="".join(where))
    if isinstance(error, asyncio.CancelledError) and stopping.task_cancelled_by is not None:
        if stopping.task_cancelled_by is CancelledBy.ANOTHER_JOB:
            return Failure(Cause.BYSTANDER, "another job cancelled a part of this one", retry_after_seconds=0.0)
        return Failure(Cause.JOB_ERROR, "CancelledError: the job cancelled itself", "asyncio.CancelledError")
    failure = describe(error, retry, cancelled=stopping.asked)
    if stopping.cancel_requested and failure.cause == Cause.INTERRUPTED:
        return Failure(Cause.CANCELLED, Cause.CANCELLED.meaning, failure.error_type, for_good=True)
    return failure


def failure_of(reason: StopReason) -> Failure | None:
    """The failure to record for an attempt that was stopped; None if this process no longer holds the claim."""
    if reason is StopReason.TIMEOUT:
        return Failure(Cause.TIMEOUT, Cause.TIMEOUT.meaning)
    if reason is StopReason.TOO_LONG:
        return Failure(Cause.TOO_LONG_FOR_WORKER, Cause.TOO_LONG_FOR_WORKER.meaning)
    if reason is StopReason.CANCELLED:
        return Failure(Cause.CANCELLED, Cause.CANCELLED.meaning, for_good=True)
    return None


def code_of(failure: Failure) -> ExitCode:
    """The exit code of an attempt that has failed."""
    if failure.cause == Cause.INTERRUPTED:
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED_FOR_GOOD if failure.for_good else ExitCode.FAILED


def code_of_unrecorded(error: DBAPIError) -> ExitCode:
    """The exit code of an attempt of a worker whose end the database did not take."""
    return ExitCode.DATABASE_AWAY if is_away(error) else ExitCode.SUPERSEDED


def describe(error: BaseException, retry: RetryPolicy, *, cancelled: bool) -> Failure:
    """Turn an exception that a job raised into a failure. Store its text only in the ledger: it may contain values."""
    return replace(_described(error, retry, cancelled=cancelled), fingerprint=fingerprint(error))


def _described(error: BaseException, retry: RetryPolicy, *, cancelled: bool) -> Failure:
    error_type = qualified_name(type(error))
    tail = "".join(traceback.format_exception(error))
    message = f"{error_type}: {_text_of(error)}"
    if isinstance(error, Superseded):
        return Failure(Cause.SUPERSEDED, message)
    if isinstance(error, RetryLater):
        return Failure(Cause.RETRY_LATER, str(error), error_type, retry_after_seconds=error.seconds)
    if isinstance(error, Discard):
        return Failure(Cause.DISCARDED, str(error), error_type, for_good=True)
    if isinstance(error, InvalidResult):
        return Failure(Cause.INVALID_RESULT, message, error_type, tail, for_good=True)
    if cancelled or isinstance(error, KeyboardInterrupt):
        return Failure(Cause.INTERRUPTED, Cause.INTERRUPTED.meaning, error_type, tail)
    never = bool({qualified_name(kind) for kind in type(error).__mro__} & set(retry.never_names))
    if isinstance(error, SystemExit):
        return Failure(Cause.JOB_EXITED, f"the job called sys.exit({error.code!r})", error_type, tail, for_good=never)
    if isinstance(error, DBAPIError) and is_unreachable(error):
        return Failure(Cause.DATABASE_UNREACHABLE, message, error_type, tail, for_good=never)
    return Failure(Cause.JOB_ERROR, message, error_type, tail, for_good=never)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as again:  # `__str__` of the job's own exception class may fail
        return f"<str() of the exception failed: {type(again).__name__}>"


LIMIT = 200
_LIBRARY = "spoke_jobs"


def fingerprint(error: BaseException) -> str:
    """Return the exception's type and the function that raised it: ``KeyError@shop.importing.load_rows``.

    The function is the innermost one of the application: of the package whose function the library called. Only the
    type, if the traceback has none.
    """
    places = [place for place in _places(error.__traceback__) if _package(place[0]) != _LIBRARY]
    kind = qualified_name(type(error))
    if not places:
        return _plain(kind)
    application = _package(places[0][0])
    module, function = next(place for place in reversed(places) if _package(place[0]) == application)
    return _plain(f"{kind}@{module}.{function}")


def _places(traceback: TracebackType | None) -> Iterator[tuple[str, str]]:
    """Yield the module and the function of each frame, the outermost first."""
    while traceback is not None:
        frame = traceback.tb_frame
        yield str(frame.f_globals.get("__name__", "")), frame.f_code.co_qualname
        traceback = traceback.tb_next


def _package(module: str) -> str:
    return module.partition(".")[0]


def _plain(text: str) -> str:
    """Leave characters that a shell takes as they are: ``load.<locals>.<lambda>`` becomes ``load.lambda``."""
    return re.sub(r"[^\w.@]", "", text.replace("<locals>.", ""), flags=re.ASCII)[:LIMIT]
