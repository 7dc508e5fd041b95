"""Names in the cluster are valid, deterministic, and apart where they must be."""

from __future__ import annotations

import re
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.names import dns_label, job_name, spokejob_name

LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


@given(st.text(max_size=300))
def test_any_type_makes_a_label(text: str) -> None:
    assert LABEL.fullmatch(dns_label(text))
    assert len(dns_label(text)) <= 30


@given(st.text(max_size=200), st.integers(1, 2**63 - 1), st.uuids(), st.integers(1, 99))
def test_a_spokejob_s_name_fits_a_label_and_names_its_row(text: str, number: int, uid: UUID, run: int) -> None:
    name = spokejob_name(text, number, uid, run)
    assert LABEL.fullmatch(name)
    assert len(name) <= 63
    assert f"-{number}-{uid.hex[:8]}" in name


def test_examples() -> None:
    uid = UUID("0123456789abcdef0123456789abcdef")
    assert spokejob_name("ingest.Van API", 41, uid, run=2) == "ingest-van-api-41-01234567-r2"
    assert job_name(spokejob_name("👍", 1, uid), 2) == "job-1-01234567-2"


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True), st.integers(1, 500))
def test_attempts_have_names_of_their_own(spokejob: str, attempt: int) -> None:
    name = job_name(spokejob, attempt)
    assert LABEL.fullmatch(name)
    assert len(name) <= 63
    assert name != job_name(spokejob, attempt + 1)


def test_long_names_that_share_a_beginning_are_told_apart() -> None:
    assert job_name("a" * 62 + "b", 1) != job_name("a" * 62 + "c", 1)
