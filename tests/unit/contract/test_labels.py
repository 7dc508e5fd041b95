"""Labels that Kubernetes accepts, whatever the job's type and queue are."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from spoke_jobs.contract.labels import (
    DEFAULT_LABELS,
    MANAGED_BY,
    given_labels,
    is_label_key,
    is_label_value,
    job_labels,
    label_value,
    problem_of_labels,
)

VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
"""As Kubernetes has it (apimachinery, validation.IsValidLabelValue)."""


@given(st.text(max_size=300))
@example("\ud800")
@example("a\n")
@example("-" * 80)
@example("é" * 80)
def test_any_text_makes_a_value(text: str) -> None:
    value = label_value(text)
    assert VALUE.match(value)
    assert len(value) <= 63
    assert bool(value) == bool(text)
    assert label_value(value) == value


@given(st.from_regex(VALUE, fullmatch=True).filter(lambda text: len(text) <= 63))
def test_a_valid_value_is_kept(text: str) -> None:
    assert label_value(text) == text
    assert problem_of_labels({"team": text}) == ""


@given(st.sets(st.text(alphabet="aA0-_.:/ é", min_size=1, max_size=100), min_size=2, max_size=6))
def test_different_texts_have_different_values(texts: set[str]) -> None:
    assert len({label_value(text) for text in texts}) == len(texts)


def test_examples() -> None:
    assert label_value("import_contacts") == "import_contacts"
    assert re.fullmatch(r"12-edit_campaign-[0-9a-f]{8}", label_value("12:edit_campaign"))
    assert re.fullmatch(r"x{54}-[0-9a-f]{8}", label_value("x" * 64))
    assert re.fullmatch(r"[0-9a-f]{8}", label_value("👍"))


@given(st.text(max_size=200), st.text(max_size=200), st.none() | st.integers(0, 2**31))
def test_labels_of_a_job_are_valid(job_type: str, queue: str, organization: int | None) -> None:
    labels = job_labels(job_type, queue, organization)
    assert all(is_label_key(key) and is_label_value(value) for key, value in labels.items())
    assert ("jobs.spoke.dev/queue" in labels) == bool(queue)
    assert ("jobs.spoke.dev/organization" in labels) == (organization is not None)


def test_keys() -> None:
    for key in ("a", "A_b.c-1", "example.com/team", "x" * 63, f"{'a' * 63}.b/n"):
        assert is_label_key(key), key
    for key in ("", "/a", "a/", "a/b/c", "-a", "a b", "Example.com/a", "x" * 64, f"{'a.' * 127}a/n", 5, "a\n"):
        assert not is_label_key(key), key


def test_only_what_the_dispatch_gave_is_read_back() -> None:
    labels = DEFAULT_LABELS | {"app.kubernetes.io/managed-by": MANAGED_BY, "jobs.spoke.dev/type": "a"}
    given = {"team": "payments", "app.kubernetes.io/part-of": "shop"}
    assert given_labels(labels | given) == given
