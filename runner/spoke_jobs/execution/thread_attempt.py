"""Run an attempt in a thread: in a pod, in a child process of a worker, or in the process that dispatched the job."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.execution.attempt import AttemptEnd, AttemptServices, attempt, until_recorded
from spoke_jobs.execution.attempt_decisions import Stopping, code_of, failure_of
from spoke_jobs.execution.context import JobContext
from spoke_jobs.execution.lease import StopReason
from spoke_jobs.execution.lease_keeper import KeptLease, Owner, keep_one
from spoke_jobs.execution.output_lines import with_output
from spoke_jobs.execution.run_sequence import ThreadEffects, run_blocking
from spoke_jobs.execution.usage_meter import Meter
from spoke_jobs.ledger.engine import is_away
from spoke_jobs.model import Claim, Failure, Progress, Pulse
from spoke_jobs.shared.thread_stacks import stacks_of_others

logger = logging.getLogger(__name__)

_STACKS = "The stacks of all threads when the job was ended (most recent call last):\n"


def run_attempt(claim: Claim, services: AttemptServices, cancel: threading.Event) -> AttemptEnd:
    """Run the attempt and record how it ended.

    :param cancel: set when the job is asked to stop.
    :raises DBAPIError: if the end could not be recorded. Exceptions of the job's own code are recorded, not raised.
    """
    return run_blocking(attempt(claim, _ThreadDriver(services, cancel)))


class _ThreadDriver(ThreadEffects):
    """Nothing can stop a thread. So an attempt that must stop is recorded by the watchdog, which then exits the process
    if it is the attempt's own."""

    measure: Meter

    def __init__(self, services: AttemptServices, cancel: threading.Event) -> None:
        self.services = services
        self.cancel = cancel
        self._cancel_requested = threading.Event()
        self._thread = threading.get_ident()

    def keep_lease(self, claim: Claim, run_until: float | None) -> KeptLease:
        """Keep the claim's lease, with threads of its own."""
        job, number, ledger = claim.job.id, claim.number, self.services.ledger

        def beat(progress: Mapping[UUID, Progress | None], lease_seconds: float) -> Mapping[UUID, Pulse]:
            return {token: ledger.heartbeat(token, lease_seconds, report) for token, report in progress.items()}

        def on_cancel() -> None:
            logger.warning("job %d, attempt %d: cancellation requested; asking the job to stop", job, number)
            self._cancel_requested.set()
            self.cancel.set()

        def on_stop(reason: StopReason) -> None:
            self.cancel.set()
            logger.error("job %d, attempt %d: stopped, %s", job, number, reason)
            if (failure := failure_of(reason)) is not None:
                if reason is StopReason.TIMEOUT:
                    failure = replace(failure, output_tail=_STACKS + stacks_of_others(last=self._thread))
                self._record_at_once(claim, failure)
            self.services.on_stop(reason)

        return keep_one(claim, beat, Owner(on_stop, on_cancel), self.services.observer, run_until)

    def stopping(self, error: BaseException) -> Stopping:
        """Why the job may have ended early. The watchdog has recorded the end of a job that it stopped."""
        return Stopping(self.cancel.is_set(), self._cancel_requested.is_set())

    def job_ended(self) -> None:
        """No code of the job runs any more: the observer need not end this process."""
        self.services.observer.lease_ends(math.inf)

    async def record_success(self, claim: Claim, context: JobContext, result: Any, lease: KeptLease) -> None:
        """Record the success of a job that has not used its session."""
        await until_recorded(claim, self, "the success", lambda: context.finish(result), is_away)

    def code_of_recorded(self, failure: Failure) -> ExitCode:
        """The exit code of an attempt whose failure is recorded."""
        return code_of(failure)

    def _record_at_once(self, claim: Claim, failure: Failure) -> None:
        """Record the failure without a retry, since the process is about to exit. If that fails, the lease lapses."""
        services = self.services
        try:
            tail = with_output(failure.output_tail, services.output())
            failure = replace(failure, output_tail=tail, usage=self.measure())
            self.job_ended()  # the process exits: the observer's reason would hide this one
            services.ledger.fail(claim.token, failure, decide=services.decide)
        except Exception as error:
            logger.warning("job %d: could not record the failure (%s)", claim.job.id, type(error).__name__)
