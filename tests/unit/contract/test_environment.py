"""The environment from the operator to the pod."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.environment import ATTEMPT, REQUEST_ID, RUN, START_TIMEOUT, UID, BadEnvironment, PodAssignment

seconds = st.integers(1, 604800)


@given(
    st.integers(1, 2**63 - 1),
    st.uuids(),
    st.integers(1, 10_000),
    st.integers(1, 9999),
    seconds,
    st.none() | seconds,
    st.text(),
)
def test_comes_back(
    request_id: int, uid: UUID, attempt: int, run: int, start_timeout: int, timeout: int | None, job_type: str
) -> None:
    assignment = PodAssignment(request_id, uid, attempt, run, start_timeout, timeout, job_type)
    assert PodAssignment.from_environment(assignment.to_environment()) == assignment


def test_a_pod_of_an_older_operator_waits_a_minute_for_its_database() -> None:
    environment = PodAssignment(5, uuid4(), 1).to_environment()
    del environment[START_TIMEOUT]
    assert PodAssignment.from_environment(environment).start_timeout_seconds == 60


@pytest.mark.parametrize(
    ("name", "value"), [(REQUEST_ID, None), (UID, None), (ATTEMPT, None), (REQUEST_ID, "x"), (REQUEST_ID, "0"),
                        (REQUEST_ID, "-1"), (REQUEST_ID, "²"), (ATTEMPT, "1.5"), (UID, "not-one"), (RUN, "")]
)  # fmt: skip
def test_what_is_wrong_is_named(name: str, value: str | None) -> None:
    environment = PodAssignment(5, uuid4(), 1).to_environment()
    if value is None:
        del environment[name]
    else:
        environment[name] = value
    with pytest.raises(BadEnvironment, match=name):
        PodAssignment.from_environment(environment)
