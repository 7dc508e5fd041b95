"""Shorten known messages of Kubernetes. Pure."""

from __future__ import annotations

import re

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.quota_message import quota_words, read_quota_refusal
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs.explain.reasons import MESSAGE_LIMIT
from spoke_jobs.explain.words import count, line

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
