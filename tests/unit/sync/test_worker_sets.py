"""The sets of workers whose load sync reports."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.model import ANY_CLAIM, ClaimFilter
from spoke_jobs.sync.worker_sets import read_worker_sets

KEYS = st.sampled_from(["types", "queues", "excludedTypes", "excludedQueues"])
SETS = st.dictionaries(st.text(), st.dictionaries(KEYS, st.lists(st.text(), max_size=3)), max_size=5)


def test_without_the_setting_all_workers_are_one_set() -> None:
    assert read_worker_sets("") == {"all": ANY_CLAIM}


@given(SETS)
def test_each_set_takes_what_it_names(sets: dict[str, dict[str, list[str]]]) -> None:
    expected = {
        name: ClaimFilter(*(tuple(one.get(key, ())) for key in ("types", "queues", "excludedTypes", "excludedQueues")))
        for name, one in sets.items()
    }
    assert read_worker_sets(json.dumps(sets)) == expected


@pytest.mark.parametrize(
    "text", ["x", "[]", '{"small": 1}', '{"small": {"type": ["mail"]}}', '{"small": {"types": "mail"}}']
)
def test_what_cannot_be_used_is_said(text: str) -> None:
    with pytest.raises(ConfigurationError, match="^SPOKE_WORKER_SETS can't be used .*: expected JSON such as"):
        read_worker_sets(text)


def test_there_are_not_too_many() -> None:
    with pytest.raises(ConfigurationError, match="names 51 sets of workers, and 50 is the most"):
        read_worker_sets(json.dumps({f"w{number}": {} for number in range(51)}))


@given(st.text())
def test_any_other_text_is_refused_or_read(text: str) -> None:
    try:
        read_worker_sets(text)
    except ConfigurationError as error:
        assert str(error).startswith("SPOKE_WORKER_SETS")  # noqa: PT017 (either may happen)
