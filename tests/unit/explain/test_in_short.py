"""What Kubernetes says at length, in a few words."""

from __future__ import annotations

import pytest

from spoke_jobs.explain.reasons import in_short

FORBIDDEN = 'Error creating: pods "export-41-0a1b2c3d-1-x" is forbidden: '


TWO = (
    f"{FORBIDDEN}exceeded quota: compute, requested: limits.memory=1Gi,requests.cpu=500m, "
    "used: limits.memory=3Gi,requests.cpu=2, limited: limits.memory=3Gi,requests.cpu=2"
)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            f"{FORBIDDEN}exceeded quota: compute, requested: cpu=1, used: cpu=4, limited: cpu=4",
            "quota compute: cpu 4 of 4 used, and the pod requests 1",
        ),
        (
            TWO,
            (
                "quota compute: limits.memory 3Gi of 3Gi used, and the pod requests 1Gi; "
                "requests.cpu 2 of 2 used, and the pod requests 0.5"
            ),
        ),
        (f"{FORBIDDEN}failed quota: compute: must specify cpu for: job", ""),
        ("exceeded quota: a, requested: b, used: c, limited: d", ""),
        ("", ""),
    ],
)
def test_a_quota(message: str, words: str) -> None:
    assert in_short("PodRejected", message) == words


PULL = 'Back-off pulling image "reg/app:9": ErrImagePull: rpc error: failed to pull and unpack image "reg/app:9": '


@pytest.mark.parametrize(
    ("message", "pulls", "words"),
    [
        (f"{PULL}reg/app:9: not found", 3, "image pull: reg/app:9: not found, 3 tries"),
        (f"{PULL}reg/app:9: not found", 1, "image pull: reg/app:9: not found, 1 try"),
        (f"{PULL}dial tcp 127.0.0.1:1: connect: connection refused", 0,
         "image pull: reg/app:9: its registry refuses connections"),
        (f"{PULL}401 Unauthorized: unauthorized", 0, "image pull: reg/app:9: its registry wants credentials"),
        ("something new", 3, ""),
    ],
)  # fmt: skip
def test_an_image_pull(message: str, pulls: int, words: str) -> None:
    assert in_short("ImageUnavailable", message, pulls) == words


def test_other_causes_are_left_as_they_are() -> None:
    assert in_short("JobError", "exceeded quota: a, requested: b=1, used: b=1, limited: b=1") == ""
