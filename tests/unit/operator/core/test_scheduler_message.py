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


NODES = "0/3 nodes are available: "
MESSAGES = [
    (NODES + 'persistentvolumeclaim "data" not found.', "VolumeClaimMissing", "data"),
    (NODES + "pod has unbound immediate PersistentVolumeClaims.", "VolumeClaimUnbound", ""),
    (
        NODES + "1 node(s) had untolerated taint(s), 2 node(s) didn't find available persistent volumes to bind.",
        "VolumeClaimUnbound",
        "",
    ),
    (
        NODES + 'waiting for ephemeral volume controller to create the persistentvolumeclaim "sj-1-x-scratch".',
        "VolumeClaimUnbound",
        "sj-1-x-scratch",
    ),
    (
        NODES + 'persistentvolumeclaim "data" bound to non-existent persistentvolume "pv-1".',
        "VolumeClaimUnbound",
        "data",
    ),
    (NODES + 'persistentvolumeclaim "data" is being deleted.', "VolumeClaimUnbound", "data"),
    (NODES + 'storageclass.storage.k8s.io "fast" not found.', "VolumeClaimUnbound", "fast"),
    (NODES + 'resourceclaim.resource.k8s.io "gpu" not found.', "ResourceClaimPending", "gpu"),
    (NODES + "3 cannot allocate all claims.", "ResourceClaimPending", ""),
    (NODES + "3 resourceclaim in use.", "ResourceClaimPending", ""),
    (NODES + "request gpu: device class gpu.example.com does not exist.", "ResourceClaimPending", "gpu.example.com"),
    (NODES + "3 node(s) didn't match Pod's node affinity/selector.", "NoNodeMatches", "node selector or affinity"),
    (
        NODES
        + "1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
        + "2 node(s) didn't match Pod's node affinity/selector.",
        "NoNodeMatches",
        "node selector or affinity, taints",
    ),
    (NODES + "3 node(s) had untolerated taint(s).", "NoNodeMatches", "taints"),
    (NODES + "3 node(s) had taint {a: b}, that the pod didn't tolerate.", "NoNodeMatches", "taints"),
    (
        NODES + "3 node(s) didn't match pod topology spread constraints (missing required label).",
        "NoNodeMatches",
        "topology spread constraints",
    ),
    (NODES + "3 node(s) didn't match pod affinity rules.", "NoNodeMatches", "pod affinity"),
    (NODES + "3 node(s) didn't match pod anti-affinity rules.", "NoNodeMatches", "pod anti-affinity"),
    (NODES + "3 node(s) didn't satisfy existing pods anti-affinity rules.", "NoNodeMatches", "pod anti-affinity"),
    (NODES + "3 node(s) didn't have free ports for the requested pod ports.", "NoNodeMatches", "host ports"),
    (NODES + "3 node(s) had volume node affinity conflict.", "NoNodeMatches", "the volume's node affinity"),
    (NODES + "3 node(s) didn't match PersistentVolume's node affinity.", "NoNodeMatches", "the volume's node affinity"),
    (NODES + "1 Insufficient cpu, 2 node(s) had untolerated taint(s).", "Unschedulable", ""),
    (NODES + "3 Insufficient nvidia.com/gpu.", "Unschedulable", ""),
    (NODES + "3 Too many pods.", "Unschedulable", ""),
    (NODES + "1 node(s) had untolerated taint(s), 2 node(s) were unschedulable.", "Unschedulable", ""),
    ('0/1 nodes are available: 1 persistentvolumeclaim "data" not found.', "VolumeClaimMissing", "data"),
    (
        'running PreFilter plugin "VolumeBinding": pod has unbound immediate PersistentVolumeClaims',
        "VolumeClaimUnbound",
        "",
    ),
    ("no nodes available to schedule pods", "Unschedulable", ""),
    ("", "Unschedulable", ""),
]


@pytest.mark.parametrize(("message", "reason", "about"), MESSAGES)
def test_what_the_scheduler_says_is_understood(message: str, reason: str, about: str) -> None:
    for rest in ("", NOT_HELPFUL, NO_CLAIMS + NOT_HELPFUL):
        assert no_node(message + rest) == (reason, about)
    assert reason in CAUSES or reason in WAITS


@given(st.text(max_size=300))
def test_any_text_is_understood_somehow(message: str) -> None:
    reason, _ = no_node(message)
    assert reason in CAUSES or reason in WAITS
