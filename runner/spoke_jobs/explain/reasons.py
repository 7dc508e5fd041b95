"""The values that `why` prints: reasons, an explanation; known messages of Kubernetes in short. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.quota_message import quota_words, read_quota_refusal
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.contract.why_codes import Code
from spoke_jobs.explain.words import ago, count, line, until

MESSAGE_LIMIT = 300
SEE_TO_THE_OPERATOR = (
    "check that the spoke-operator runs and serves this namespace (SPOKE_OPERATOR_NAMESPACES); if it lacks a right "
    "here, its log names it"
)
_IMAGE = re.compile(r'image "([^"]+)"')
_PULL_SECRETS = re.compile(r"image pull secrets \(([^()]+)\)")
"""In the kubelet's event, which the operator adds: `Unable to retrieve some image pull secrets (a, b)`."""
_PULL_ENDS = (
    ("not found", "not found"),
    ("connection refused", "its registry refuses connections"),
    ("no such host", "its registry's name is not known"),
    ("i/o timeout", "its registry does not answer"),
    ("unauthorized", "its registry wants credentials"),
    ("Unauthorized", "its registry wants credentials"),
    ("authorization failed", "its registry wants credentials"),
    ("denied", "its registry refuses it"),
    ("ErrImageNeverPull", "it isn't on the node, and may not be pulled"),
)
"""Text in the kubelet's message, and what it means; the first match counts."""


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


def in_short(cause: str, message: str, pulls: int = 0, container: str = "") -> str:
    """Shorten a known message of that cause. Return an empty text for an unknown message.

    :param container: the container that the message concerns, if it is not the job's.
    :param pulls: how often the image was requested; 0 if that is not known.
    """
    if cause == Cause.POD_REJECTED:
        return _quota(message)
    if cause not in (Cause.IMAGE_UNAVAILABLE, WaitReason.REGISTRY_AWAY):
        return ""
    return _image_pull(message, pulls, container)


def obstacle_in_short(wait: Wait, message: str) -> str:
    """Shorten what Kubernetes says about what a SpokeJob waits for. The message of `PodsNotStarting` is about pods."""
    return in_short(wait.object if wait.code == WaitReason.PODS_NOT_STARTING else wait.code, message)


def _quota(message: str) -> str:
    """Format ``quota compute: cpu 4 of 4 used, and the pod requests 1``."""
    found = read_quota_refusal(message)
    return line(quota_words(found.quota, found.uses), MESSAGE_LIMIT) if found and found.uses else ""


def _image_pull(message: str, pulls: int, container: str) -> str:
    """Format ``image pull: app:9: not found, 3 tries``."""
    end = next((words for found, words in _PULL_ENDS if found in message), "")
    if not end:
        return ""
    image = _IMAGE.search(message)
    tries = f", {count(pulls, 'try', 'tries')}" if pulls else ""
    of = f" of container {line(container)}" if container else ""
    missing = _PULL_SECRETS.search(message)
    secret = f"; no pull Secret {line(missing[1])}" if missing else ""
    return f"image pull{of}: {line(image[1]) if image else 'the image'}: {end}{tries}{secret}"
