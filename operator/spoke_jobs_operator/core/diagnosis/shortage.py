"""Read from the scheduler's message whether a pod waits for room, and which resources are short.

The scheduler writes, for example: "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient memory.
preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for
incoming pod." The first part counts the nodes by what they lack. The second says of each node whether the pod would fit
if other pods went away: not helpful means that it would not, for example because it requests more than the whole node
has (kube-scheduler, plugins `NodeResourcesFit` and `DefaultPreemption`).

Reading is lenient: after a message that is not understood, the pod does not count as waiting for room.
"""

from __future__ import annotations

import re

_INSUFFICIENT = re.compile(r"\binsufficient ([a-z0-9][-./a-z0-9]*[a-z0-9])", re.IGNORECASE)
_PREEMPTION = re.compile(r"\bpreemption:", re.IGNORECASE)
_NODES = re.compile(r"\b0/([0-9]+) nodes? (?:are|is) available", re.IGNORECASE)
_HOPELESS = re.compile(r"([0-9]+) preemption is not helpful", re.IGNORECASE)
_OTHERS = (("too many pods", "pods"), ("max volume count", "volumes"))
"""A text in the message, and the resource that is short."""
_CORDONED = "were unschedulable"
_LONGEST = 100


def shortage(message: str) -> str:
    """Return what is short, such as ``cpu, memory``; empty if the pod does not wait for room.

    A pod that would fit no node even without other pods does not wait for room. While a node is cordoned, the scheduler
    does not say whether the pod would fit it, so the pod waits for that node.
    """
    nodes, *preemption = _PREEMPTION.split(message, maxsplit=1)
    short = dict.fromkeys(_INSUFFICIENT.findall(nodes))
    lower = nodes.lower()
    short |= dict.fromkeys(what for text, what in _OTHERS if text in lower)
    if preemption and _fits_nowhere(preemption[0]):
        short.clear()
    if _CORDONED in lower:
        short["nodes that are not cordoned"] = None
    return ", ".join(short)[:_LONGEST]


def _fits_nowhere(preemption: str) -> bool:
    """Whether the scheduler says of every node that the pod would not fit if all others went away."""
    nodes = _NODES.search(preemption)
    hopeless = sum(int(count) for count in _HOPELESS.findall(preemption))
    return nodes is not None and 0 < int(nodes[1]) <= hopeless
