"""What proves that an assignment comes from the operator."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.environment import PodAssignment
from spoke_jobs.contract.standby import (
    PodState,
    assignment_body,
    identity_of,
    proves,
    read_assignment,
    read_state,
    secret_of,
    verifier_of,
)

keys = st.binary(min_size=32, max_size=64)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=63)


@given(keys, names, names)
def test_the_secret_proves_itself_and_the_verifier_does_not(key: bytes, namespace: str, job: str) -> None:
    secret = secret_of(key, namespace, job)
    verifier = verifier_of(secret)
    assert proves(secret, verifier)
    assert not proves(verifier, verifier), "whoever reads the pod has the verifier"
    assert secret not in verifier


@given(keys, st.lists(st.tuples(names, names), min_size=2, max_size=2, unique=True))
def test_each_pod_has_a_secret_of_its_own(key: bytes, pods: list[tuple[str, str]]) -> None:
    one, other = (secret_of(key, *pod) for pod in pods)
    assert one != other
    assert not proves(one, verifier_of(other))


@given(st.text(), st.text())
def test_nothing_else_proves_anything(secret: str, verifier: str) -> None:
    assert not proves(secret, verifier)


def test_another_key_gives_another_secret() -> None:
    assert secret_of(b"a" * 32, "ns", "job") != secret_of(b"b" * 32, "ns", "job")


@given(st.integers(1, 2**63 - 1), st.uuids(), st.integers(1, 9999), st.text(min_size=1, max_size=200).filter(str.strip))
def test_an_assignment_comes_back(request_id: int, uid: object, attempt: int, job_type: str) -> None:
    assignment = PodAssignment(request_id, uid, attempt, job_type=job_type.replace("\0", ""))  # type: ignore[arg-type]
    read = read_assignment(assignment_body(assignment.to_environment()))
    assert read is not None
    assert PodAssignment.from_environment(read) == assignment


@pytest.mark.parametrize(
    ("name", "is_the_same"),
    [
        *(("SPOKE_REQUEST_ID", False), ("SPOKE_REQUEST_UID", False), ("SPOKE_RUN", False), ("SPOKE_ATTEMPT", False)),
        *(("SPOKE_TIMEOUT", True), ("SPOKE_START_TIMEOUT", True), ("SPOKE_JOB_TYPE", True), ("SPOKE_NEW", True)),
    ],
)
def test_what_tells_one_attempt_from_another(name: str, is_the_same: bool) -> None:
    told = PodAssignment(1, UUID(int=1), 1).to_environment()
    assert (identity_of(told) == identity_of(told | {name: "7"})) is is_the_same


def test_an_assignment_has_identifiers_only() -> None:
    for name in ("SPOKE_APP", "SPOKE_DATABASE_URL", "PATH", "SPOKE_POD", "SPOKE_STANDBY"):
        assert read_assignment(assignment_body({"SPOKE_REQUEST_ID": "1", name: "x"})) == {"SPOKE_REQUEST_ID": "1"}, name
    assert read_assignment(b'{"SPOKE_REQUEST_ID": 1}') is None
    assert read_assignment(b'{"SPOKE_JOB_TYPE": "a\\u0000b"}') is None
    assert read_assignment(b'{"SPOKE_JOB_TYPE": "%s"}' % (b"a" * 5000)) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert read_assignment(data) is None or data.strip().startswith(b"{")
    assert read_state(data) is None or b"state" in data


def test_the_states_are_read() -> None:
    assert [read_state(b'{"state": "%s"}' % state.encode()) for state in PodState] == list(PodState)
    assert [read_state(data) for data in (b'{"state": "x"}', b'{"state": ["free"]}', b"[]", b"free")] == [None] * 4
