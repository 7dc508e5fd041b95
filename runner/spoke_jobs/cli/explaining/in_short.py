"""Shorten known messages of Kubernetes. Pure."""

from __future__ import annotations

import re

from spoke_jobs.cli.explaining.reasons import MESSAGE_LIMIT
from spoke_jobs.cli.words import count, line
from spoke_jobs.contract.causes import Cause

_QUOTA = re.compile(r"exceeded quota: (\S+), requested: (.+?), used: (.+?), limited: (\S+?)\.?$")
_IMAGE = re.compile(r'image "([^"]+)"')
_PULL_ENDS = (
    ("not found", "not found"),
    ("connection refused", "its registry refuses connections"),
    ("no such host", "its registry's name is not known"),
    ("i/o timeout", "its registry does not answer"),
    ("unauthorized", "its registry wants credentials"),
    ("authorization failed", "its registry wants credentials"),
    ("denied", "its registry refuses it"),
    ("ErrImageNeverPull", "it isn't on the node, and may not be pulled"),
)
"""Text in the kubelet's message, and what it means; the first match counts."""


def in_short(cause: str, message: str, pulls: int = 0) -> str:
    """Shorten a known message of that cause. Return an empty text for an unknown message.

    :param pulls: how often the image was requested; 0 if that is not known.
    """
    if cause == Cause.POD_REJECTED:
        return _quota(message)
    return _image_pull(message, pulls) if cause == Cause.IMAGE_UNAVAILABLE else ""


def _quota(message: str) -> str:
    """Format ``quota compute: cpu 4 of 4, and it asks for 1``."""
    found = _QUOTA.search(message)
    if found is None:
        return ""
    requested, used, limited = (_amounts(part) for part in found.groups()[1:])
    parts = [
        f"{name} {used.get(name, '0')} of {limited[name]}, and it asks for {amount}"
        for name, amount in requested.items()
        if name in limited
    ]
    return f"quota {line(found[1])}: {line('; '.join(parts), MESSAGE_LIMIT)}" if parts else ""


def _amounts(text: str) -> dict[str, str]:
    """Parse ``requests.cpu=1,pods=2``."""
    return dict(part.split("=", 1) for part in text.replace(" ", "").split(",") if "=" in part)


def _image_pull(message: str, pulls: int) -> str:
    """Format ``image pull: app:9: not found, 3 tries``."""
    end = next((words for found, words in _PULL_ENDS if found in message), "")
    if not end:
        return ""
    image = _IMAGE.search(message)
    tries = f", {count(pulls, 'try', 'tries')}" if pulls else ""
    return f"image pull: {line(image[1]) if image else 'the image'}: {end}{tries}"
