"""How many SpokeJobs are tried whose Jobs the API server rejects: whatever happens, few, and in the end all."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.wait_reasons import Wait, WaitReason
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.obstacles.rejection_hold import OF_A_TEMPLATE, OF_A_TYPE, RejectionHolds
from spoke_jobs_operator.core.obstacles.room import Group

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GROUP = Group("ns", "default")
DENIED = Wait(Cause.POD_REJECTED, detail="policy require-team: the label team is missing")


def key(number: int) -> Key:
    return Key("ns", f"job-{number}")


def rejected(count: int, job_type: str = "import") -> RejectionHolds:
    holds = RejectionHolds()
    for number in range(count):
        holds.admit(key(number), GROUP, job_type)
        holds.rejected(key(number), GROUP, job_type, DENIED, NOW)
    return holds


def test_the_wait_has_the_message_of_what_rejects() -> None:
    wait = rejected(OF_A_TYPE).why(key(99), GROUP, "import")
    assert wait is not None
    assert (wait.code, wait.object, wait.running) == (WaitReason.PODS_NOT_STARTING, "PodRejected", OF_A_TYPE)
    assert wait.detail == f"PodRejected: {DENIED.detail}"


def test_other_types_templates_and_namespaces_are_not_held() -> None:
    holds = rejected(OF_A_TYPE)
    assert holds.why(key(99), GROUP, "export") is None
    assert holds.why(key(99), Group("ns", "other"), "import") is None
    assert holds.why(key(99), Group("other", "default"), "import") is None


def test_one_that_was_rejected_may_be_tried_again_and_counts_once() -> None:
    holds = rejected(OF_A_TYPE)
    assert holds.why(key(0), GROUP, "import") is None
    holds.admit(key(0), GROUP, "import")
    holds.rejected(key(0), GROUP, "import", DENIED, NOW)
    (published,) = holds.published("ns")
    assert published.pods == OF_A_TYPE
    assert holds.forget(key(0))
    assert holds.why(key(99), GROUP, "import") is None, "its turn is another one's"


def test_each_job_that_is_accepted_lets_one_more_be_tried() -> None:
    holds = rejected(OF_A_TYPE)
    holds.admit(key(0), GROUP, "import")
    assert holds.accepted(key(0))
    assert not holds.accepted(key(0)), "once"
    for number in (50, 51):
        assert holds.why(key(number), GROUP, "import") is None
        holds.admit(key(number), GROUP, "import")
    assert holds.why(key(52), GROUP, "import") is not None


def test_one_that_loses_its_place_before_it_is_tried_is_forgotten() -> None:
    holds = rejected(OF_A_TYPE - 1)
    holds.admit(key(50), GROUP, "import")
    assert holds.why(key(51), GROUP, "import") is not None
    holds.release(key(50))
    assert holds.why(key(51), GROUP, "import") is None
    holds.release(key(0))
    (published,) = holds.published("ns")
    assert published.pods == OF_A_TYPE - 1, "a rejected one has no place to lose"


OPS = st.tuples(
    st.sampled_from(["try", "reject", "accept", "release", "forget"]),
    st.integers(0, 80),
    st.sampled_from(["import", "export"]),
    st.sampled_from([GROUP, Group("ns", "other")]),
)


@settings(deadline=None)
@given(st.lists(OPS, max_size=200))
def test_few_are_tried_and_nothing_is_left_of_those_that_are_gone(steps: list[tuple[str, int, str, Group]]) -> None:
    """SpokeJobs may be replaced by others of the same name, of another type or PodTemplate."""
    holds, accepted = RejectionHolds(), 0
    for step, number, job_type, group in steps:
        if step == "try" and holds.why(key(number), group, job_type) is None:
            holds.admit(key(number), group, job_type)
        elif step == "reject" and holds.why(key(number), group, job_type) is None:
            holds.admit(key(number), group, job_type)
            holds.rejected(key(number), group, job_type, DENIED, NOW)
        elif step == "accept":
            accepted += holds.accepted(key(number))
        elif step == "release":
            holds.release(key(number))
        elif step == "forget":
            holds.forget(key(number))
        for item in holds.published("ns"):
            assert 0 < (item.pods or 0) <= OF_A_TEMPLATE + accepted
    for number in range(81):
        holds.forget(key(number))
    assert holds.published("ns") == []
    for number in range(OF_A_TYPE):
        assert holds.why(key(number), GROUP, "import") is None
        holds.admit(key(number), GROUP, "import")
        holds.rejected(key(number), GROUP, "import", DENIED, NOW)
    assert holds.why(key(99), GROUP, "import") is not None, "counts begin anew"
