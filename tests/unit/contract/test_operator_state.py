"""What the operator publishes is what `why` reads, whatever the release."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.contract.operator_state import OperatorState, Publication

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
TEXTS = st.text(st.characters(categories=["L", "N"]), max_size=8)
COUNTS = st.dictionaries(TEXTS, st.integers(0, 1000), max_size=3)
STATES = st.builds(
    OperatorState,
    limits=COUNTS,
    queues=COUNTS,
    reasons=COUNTS,
    waiting=st.integers(0, 10**6),
    turns=st.lists(TEXTS, max_size=3).map(tuple),
)


@given(STATES)
def test_what_is_written_is_read(state: OperatorState) -> None:
    published = Publication(NOW, "operator-0", state, NOW - timedelta(hours=1))
    assert Publication.read(published.to_data()) == published


def test_an_operator_of_an_earlier_release_says_less() -> None:
    data = Publication(NOW, "operator-0", OperatorState(waiting=3)).to_data()
    assert "since" not in data
    state = {name: value for name, value in json.loads(data["state"]).items() if name != "standbyPods"}
    found = Publication.read(data | {"state": json.dumps(state)})
    assert found is not None
    assert (found.leads_since, found.state.standby_pods, found.state.waiting) == (None, (), 3)


def test_each_kind_of_entry_is_read_as_it_was_written() -> None:
    quota = {"resource": "cpu", "requested": "1", "used": "3", "hard": "3"}
    value: dict[str, Any] = {
        "limits": {"running": 5},
        "namespaceLimits": {"all": {"value": 3, "source": "SpokeLimit a"}, "weight": 4},
        "rates": [{"scope": "all", "rate": "5/s", "source": "SpokeLimit b", "tokens": 2}],
        "paused": [{"scope": "queue:q", "source": "SpokeLimit c", "by": "ann"}],
        "running": {"all": 3, "namespace": 2},
        "queues": {"q": 2},
        "organizations": {"7": 1},
        "waiting": 3,
        "starting": 1,
        "holds": [
            {"reason": "QuotaExceeded", "template": "t", "quota": "q", "resources": [quota], "fits": 1, "refused": 0},
            {"reason": "DatabaseAway", "cause": "x", "since": NOW.isoformat(), "next_probe": NOW.isoformat()},
        ],
        "reasons": {"New": 1},
        "turns": ["x", "z"],
        "standby": [
            {"template": "t", "failure": "ImagePullFailed", "retry_at": NOW.isoformat()},
            {"template": "u", "hindrance": "NoAnswer"},
        ],
        "standbyPods": [{"template": "t", "free": 3, "starting": 1, "assigned": 2}],
    }
    assert OperatorState.read(value).to_json() == value


@pytest.mark.parametrize("wrong", [{"turns": 7}, {"turns": ["a", 7]}, {"waiting": "many"}, {"later": {"a": 1}}])
def test_a_field_of_another_release_leaves_the_others_readable(wrong: dict[str, Any]) -> None:
    data = {"time": NOW.isoformat(), "state": json.dumps({"turns": ["a"], "waiting": 9, "starting": 2} | wrong)}
    found = Publication.read(data)
    assert found is not None
    assert found.state.starting == 2
    assert found.state.waiting == (0 if "waiting" in wrong else 9)
    assert found.state.turns == (() if "turns" in wrong else ("a",))
