"""The values that `why` prints: reasons, an explanation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.words import ago, until

MESSAGE_LIMIT = 300
SEE_TO_THE_OPERATOR = (
    "check that the spoke-operator runs and serves this namespace (SPOKE_OPERATOR_NAMESPACES); if it lacks a right "
    "here, its log names it"
)


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that a job waits for, or that explains its state."""

    code: Code
    text: str
    """A sentence."""
    advice: str = ""
    """What the reader can do; empty if there is nothing to do."""
    until: datetime | None = None
    """When the reason ends, if that is known."""
    job_id: int | None = None
    """The other job that the reason names."""
    worker: str | None = None
    number: int | None = None
    """How many jobs the reason counts."""
    cause: str = ""
    """The operator's reason or cause; empty if there is none."""
    waits_for: WaitReason | None = None
    scope: str = ""
    """The scope of the ledger's pause or limit that holds the job back."""
    batch_id: int | None = None
    """The batch whose failed jobs kept the job from being started."""

    @property
    def reason(self) -> str:
        """The reason to wait or the cause by its one name (docs/reference/causes.md); empty for a job's state."""
        return self.waits_for or (self.cause if self.code is Code.CLUSTER else "")


def waits_for(
    reason: WaitReason,
    text: str,
    advice: str = "",
    *,
    until: datetime | None = None,
    job_id: int | None = None,
    worker: str | None = None,
    number: int | None = None,
    cause: str = "",
    scope: str = "",
) -> Reason:
    """Return one thing that a job waits for. Its code follows from the reason."""
    return Reason(reason.code, text, advice, until, job_id, worker, number, cause, reason, scope)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The reasons for a job's state, the most important first."""

    reasons: tuple[Reason, ...]
    output_tail: str = ""
    """The output of the attempt that ended the job."""


def when(then: datetime, now: datetime) -> str:
    """Format how far away a time is, in the past or in the future."""
    return until(then, now) if then > now else ago(then, now)
