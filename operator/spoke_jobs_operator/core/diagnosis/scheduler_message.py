"""Read from the scheduler's message why a pod gets no node, whether it waits for room, and what is short.

The scheduler writes, for example: "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match
Pod's node affinity/selector. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not
helpful for scheduling." The first part counts the nodes by what excludes them, or names an object that is missing. The
texts come from kube-scheduler's plugins in `pkg/scheduler/framework/plugins`, of several releases.

The part about preemption says of each node whether the pod would fit if other pods went away: not helpful means that it
would not, for example because it requests more than the whole node has (plugins `NodeResourcesFit` and
`DefaultPreemption`).

Reading is lenient: a message that is not understood gives the reason `Unschedulable`, and the pod does not count as
waiting for room.
"""

from __future__ import annotations

import re

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.wait_reasons import WaitReason

_PREEMPTION = re.compile(r"\bpreemption:", re.IGNORECASE)
_INSUFFICIENT = re.compile(r"\binsufficient ([a-z0-9][-./a-z0-9]*[a-z0-9])", re.IGNORECASE)
_OTHERS = (("too many pods", "pods"), ("max volume count", "volumes"))
"""A text in the message, and the resource that is short."""
_CORDONED = "were unschedulable"
_NODES = re.compile(r"\b0/([0-9]+) nodes? (?:are|is) available", re.IGNORECASE)
_HOPELESS = re.compile(r"([0-9]+) preemption is not helpful", re.IGNORECASE)
_LONGEST = 100

_OBJECTS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), code)
    for pattern, code in (
        (r'persistentvolumeclaim "([^"]+)" not found', Cause.VOLUME_CLAIM_MISSING),
        (r'to create the persistentvolumeclaim "([^"]+)"', Cause.VOLUME_CLAIM_UNBOUND),
        (r'persistentvolumeclaim "([^"]+)" (?:is being deleted|bound to non-existent)', Cause.VOLUME_CLAIM_UNBOUND),
        (r'PVC was not created for pod|storageclass[.\w]* "([^"]+)" not found', Cause.VOLUME_CLAIM_UNBOUND),
        (r"unbound immediate persistentvolumeclaims", Cause.VOLUME_CLAIM_UNBOUND),
        (r"find available persistent volumes to bind", Cause.VOLUME_CLAIM_UNBOUND),
        (r"not have enough free storage", Cause.VOLUME_CLAIM_UNBOUND),
        (r"bound to non-existent pv", Cause.VOLUME_CLAIM_UNBOUND),
        (r'resourceclaim(?:template)?[.\w]* "([^"]+)"', WaitReason.RESOURCE_CLAIM_PENDING),
        (r'device class "?([-.\w]+)"? does not exist', WaitReason.RESOURCE_CLAIM_PENDING),
        (r"resource ?claim ([-./\w]+) is in the process", WaitReason.RESOURCE_CLAIM_PENDING),
        (r"resource ?claim|cannot allocate all claims", WaitReason.RESOURCE_CLAIM_PENDING),
    )
)
"""Pairs: a pattern for the name of a missing object, and the reason to wait. The first match counts."""

_MISMATCHES: tuple[tuple[str, str], ...] = (
    ("node affinity/selector", "node selector or affinity"),
    ("didn't match node selector", "node selector or affinity"),
    ("scheduler-enforced node affinity", "node selector or affinity"),
    ("the requested node name", "node name"),
    ("pod affinity rules", "pod affinity"),
    ("anti-affinity rules", "pod anti-affinity"),
    ("topology spread constraints", "topology spread constraints"),
    ("free ports", "host ports"),
    ("volume node affinity conflict", "the volume's node affinity"),
    ("persistentvolume's node affinity", "the volume's node affinity"),
    ("no available volume zone", "the volume's zone"),
    ("readwriteoncepod", "a volume that another pod uses"),
    ("taint", "taints"),
)
"""Pairs: a text in the message, in lower case, and the rule of the pod that no node matches."""

FITS_NOWHERE = (WaitReason.UNSCHEDULABLE, WaitReason.NO_NODE_MATCHES)
"""The reasons of a pod that no node can take, whatever other pods do."""


def no_node(message: str) -> tuple[str, str]:
    """Return why the scheduler finds no node for a pod: a cause or a reason to wait, and the object or rule concerned.

    If some nodes lack room and others do not match, the pod waits for room: only room can change by itself.
    """
    nodes = _PREEMPTION.split(message, maxsplit=1)[0]
    for pattern, code in _OBJECTS:
        if found := pattern.search(nodes):
            return (code, next((name for name in found.groups() if name), ""))
    lower = nodes.lower()
    mismatches = dict.fromkeys(words for text, words in _MISMATCHES if text in lower)
    if not mismatches or _short_of(nodes) or _CORDONED in lower:
        return (WaitReason.UNSCHEDULABLE, "")
    return (WaitReason.NO_NODE_MATCHES, ", ".join(mismatches))


def shortage(message: str) -> str:
    """Return what is short, such as ``cpu, memory``; empty if the pod does not wait for room.

    A pod that would fit no node even without other pods does not wait for room. While a node is cordoned, the scheduler
    does not say whether the pod would fit it, so the pod waits for that node.
    """
    nodes, *preemption = _PREEMPTION.split(message, maxsplit=1)
    short = {} if preemption and _fits_nowhere(preemption[0]) else _short_of(nodes)
    if _CORDONED in nodes.lower():
        short["nodes that are not cordoned"] = None
    return ", ".join(short)[:_LONGEST]


def _short_of(nodes: str) -> dict[str, None]:
    lower = nodes.lower()
    return dict.fromkeys([*_INSUFFICIENT.findall(nodes), *(what for text, what in _OTHERS if text in lower)])


def _fits_nowhere(preemption: str) -> bool:
    """Whether the scheduler says of every node that the pod would not fit if all others went away."""
    nodes = _NODES.search(preemption)
    hopeless = sum(int(count) for count in _HOPELESS.findall(preemption))
    return nodes is not None and 0 < int(nodes[1]) <= hopeless
