"""The scheduler's messages, as kube-scheduler 1.25 to 1.34 writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.wait_reasons import WAITS
from spoke_jobs_operator.core.diagnosis.scheduler_message import no_node

NOT_HELPFUL = " preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
NO_CLAIMS = " no new claims to deallocate,"
"""What schedulers since 1.33 add to each message."""


@pytest.mark.parametrize(
    ("message", "reason", "about"),
    [
        ('0/3 nodes are available: persistentvolumeclaim "data" not found.', "VolumeClaimMissing", "data"),
        ('0/1 nodes are available: 1 persistentvolumeclaim "data" not found.', "VolumeClaimMissing", "data"),
        ("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "VolumeClaimUnbound", ""),
        (
            'running PreFilter plugin "VolumeBinding": pod has unbound immediate PersistentVolumeClaims',
            "VolumeClaimUnbound",
            "",
        ),
        (
            (
                "0/3 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim "
                '"sj-1-x-scratch".'
            ),
            "VolumeClaimUnbound",
            "sj-1-x-scratch",
        ),
        (
            '0/3 nodes are available: persistentvolumeclaim "data" bound to non-existent persistentvolume "pv-1".',
            "VolumeClaimUnbound",
            "data",
        ),
        ('0/3 nodes are available: persistentvolumeclaim "data" is being deleted.', "VolumeClaimUnbound", "data"),
        (
            '0/3 nodes are available: storageclass.storage.k8s.io "fast" not found.',
            "VolumeClaimUnbound",
            "fast",
        ),
        (
            (
                "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't find available "
                "persistent volumes to bind."
            ),
            "VolumeClaimUnbound",
            "",
        ),
        (
            '0/3 nodes are available: resourceclaim.resource.k8s.io "gpu" not found.',
            "ResourceClaimPending",
            "gpu",
        ),
        ("0/3 nodes are available: 3 cannot allocate all claims.", "ResourceClaimPending", ""),
        ("0/3 nodes are available: 3 resourceclaim in use.", "ResourceClaimPending", ""),
        (
            "0/3 nodes are available: request gpu: device class gpu.example.com does not exist.",
            "ResourceClaimPending",
            "gpu.example.com",
        ),
        (
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
            "NoNodeMatches",
            "node selector or affinity",
        ),
        (
            (
                "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
                "2 node(s) didn't match Pod's node affinity/selector."
            ),
            "NoNodeMatches",
            "node selector or affinity, taints",
        ),
        ("0/3 nodes are available: 3 node(s) had untolerated taint(s).", "NoNodeMatches", "taints"),
        (
            "0/3 nodes are available: 3 node(s) had taint {a: b}, that the pod didn't tolerate.",
            "NoNodeMatches",
            "taints",
        ),
        (
            "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints (missing required label).",
            "NoNodeMatches",
            "topology spread constraints",
        ),
        ("0/3 nodes are available: 3 node(s) didn't match pod affinity rules.", "NoNodeMatches", "pod affinity"),
        (
            "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.",
            "NoNodeMatches",
            "pod anti-affinity",
        ),
        (
            "0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules.",
            "NoNodeMatches",
            "pod anti-affinity",
        ),
        (
            "0/3 nodes are available: 3 node(s) didn't have free ports for the requested pod ports.",
            "NoNodeMatches",
            "host ports",
        ),
        (
            "0/3 nodes are available: 3 node(s) had volume node affinity conflict.",
            "NoNodeMatches",
            "the volume's node affinity",
        ),
        (
            "0/3 nodes are available: 3 node(s) didn't match PersistentVolume's node affinity.",
            "NoNodeMatches",
            "the volume's node affinity",
        ),
        (
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s).",
            "Unschedulable",
            "",
        ),
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "Unschedulable", ""),
        ("0/3 nodes are available: 3 Too many pods.", "Unschedulable", ""),
        (
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) were unschedulable.",
            "Unschedulable",
            "",
        ),
        ("no nodes available to schedule pods", "Unschedulable", ""),
        ("", "Unschedulable", ""),
    ],
)
@pytest.mark.parametrize("rest", ["", NOT_HELPFUL, NO_CLAIMS + NOT_HELPFUL])
def test_what_the_scheduler_says_is_understood(message: str, reason: str, about: str, rest: str) -> None:
    assert no_node(message + rest) == (reason, about)
    assert reason in CAUSES or reason in WAITS


@given(st.text(max_size=300))
def test_any_text_is_understood_somehow(message: str) -> None:
    reason, _ = no_node(message)
    assert reason in CAUSES or reason in WAITS
