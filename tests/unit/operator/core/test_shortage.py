"""What is short, from the scheduler's message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs_operator.core.diagnosis.scheduler_message import shortage

VICTIMS = "No preemption victims found for incoming pod"
USELESS = "Preemption is not helpful for scheduling"


@pytest.mark.parametrize(
    ("nodes", "preemption", "short"),
    [
        ("2 Insufficient memory, 1 node(s) had untolerated taint(s)", f"1 {USELESS}, 2 {VICTIMS}", "memory"),
        ("1 Insufficient cpu, 1 Insufficient memory, 1 Too many pods", f"3 {VICTIMS}", "cpu, memory, pods"),
        ("3 Insufficient nvidia.com/gpu", f"3 {VICTIMS}", "nvidia.com/gpu"),
        ("3 node(s) exceed max volume count", f"3 {VICTIMS}", "volumes"),
        ("1 node(s) were unschedulable, 2 node(s) had taint(s)", f"3 {USELESS}", "nodes that are not cordoned"),
        # Each node is too small, or excluded by a rule of the pod: other pods' ends change nothing.
        ("2 Insufficient memory, 1 node(s) had untolerated taint(s)", f"3 {USELESS}", ""),
        ("1 node(s) didn't match Pod's node affinity/selector, 2 node(s) had untolerated taint(s)", f"3 {USELESS}", ""),
    ],
)  # fmt: skip
def test_a_pod_waits_for_room_only_where_other_pods_are_in_its_way(nodes: str, preemption: str, short: str) -> None:
    message = f"0/3 nodes are available: {nodes}. no new claims to deallocate, preemption: 0/3 nodes are available: "
    assert shortage(f"{message}{preemption}.") == short


def test_without_a_word_on_preemption_what_is_insufficient_counts() -> None:
    assert shortage("0/1 nodes are available: 1 Insufficient cpu.") == "cpu"
    assert shortage("0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to "
                    "preemptionPolicy=Never.") == "cpu"  # fmt: skip


@pytest.mark.parametrize(
    "message", ["", "no nodes available to schedule pods", 'persistentvolumeclaim "x" not found', "preemption:"]
)
def test_other_messages_are_not_about_room(message: str) -> None:
    assert shortage(message) == ""


@given(st.text())
def test_any_text_is_read(message: str) -> None:
    assert len(shortage(message)) <= 100
