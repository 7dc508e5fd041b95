"""What a SpokeLimit's status says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.unit.operator.core.objects import NOW

from spoke_jobs.contract.custom_resources.spokelimit import SpokeLimitStatus
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs_operator.core.admission.admit import Candidate, Usage
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.objects.limit_objects import SpokeLimitView, read_spokelimit
from spoke_jobs_operator.core.reporting.limit_status import count_waiting, is_urgent, status_of

RUNNING = [
    Candidate(Key("ns", "a"), 0, NOW, Subject("in.csv", "q", 1, "k")),
    Candidate(Key("ns", "b"), 0, NOW, Subject(organization_id=2)),
    Candidate(Key("ns", "c"), 0, NOW, Subject("", "p")),
    Candidate(Key("other", "d"), 0, NOW, Subject("", "q", 1)),
]
WAITING = [Candidate(Key("ns", f"w{n}"), 0, NOW, Subject("mail", "q", None, "k")) for n in range(3)]
SCOPES = (
    *("all", "queue:q", "queue:none", "organization:2", "each-queue", "each-organization"),
    *("type:in.csv", "type:in.*", "type:mail", "each-type", "key:k"),
)


def spokelimit(scope: str, **spec: Any) -> SpokeLimitView:
    metadata = {"name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "1", "generation": 4}
    return read_spokelimit({"metadata": metadata, "spec": {"scope": scope} | spec})


def status(item: SpokeLimitView, seconds: float = 0) -> SpokeLimitStatus:
    now = NOW + timedelta(seconds=seconds)
    return status_of(item, Usage.of(RUNNING).in_scope, count_waiting(WAITING, [item]), now)


def conditions(item: SpokeLimitView, seconds: float = 0) -> dict[str, tuple[str, str, str]]:
    return {each.type: (each.status, each.reason, each.message) for each in status(item, seconds).conditions}


def test_each_scope_counts_its_own() -> None:
    counts = {scope: (found.running, found.waiting) for scope in SCOPES if (found := status(spokelimit(scope)))}
    assert counts == {
        "all": (3, 3),
        "queue:q": (1, 3),
        "queue:none": (0, 0),
        "organization:2": (1, 0),
        "each-queue": (2, 3),
        "each-organization": (2, 0),
        "type:in.csv": (1, 0),
        "type:in.*": (1, 0),
        "type:mail": (0, 3),
        "each-type": (3, 3),
        "key:k": (1, 3),
    }
    assert status(spokelimit("all")).observed_generation == 4


def test_waiting_types_and_prefixes_that_no_limit_names_are_not_counted() -> None:
    """Whoever may create SpokeJobs chooses their types, and a type has up to a hundred prefixes."""
    hostile = [Candidate(Key("ns", f"w{n}"), 0, NOW, Subject(f"in{'.a' * 90}.{n}")) for n in range(100)]
    for scope, count in (("type:in.*", 100), ("type:in.a.*", 100), ("type:out.*", 0), ("all", 100)):
        counts = count_waiting(hostile, [spokelimit(scope)])
        assert len([key for key in counts if key.scope.startswith("type:")]) <= 1
        assert status_of(spokelimit(scope), Usage().in_scope, counts, NOW).waiting == count


def test_one_of_another_release_or_unreadable_is_not_enforced_and_says_why() -> None:
    unknown = spokelimit("lane:pod", maxRunning=1, paused={"reason": "x"})
    assert conditions(unknown) == {
        "Enforced": ("False", "UnknownScope", "this release of the operator does not enforce the scope 'lane:pod'"),
        "Paused": ("False", "NotPaused", ""),
    }
    assert (status(unknown).running, status(unknown).waiting) == (None, None)
    assert conditions(spokelimit("all", maxRunning="x"))["Enforced"] == (
        "False",
        "Unreadable",
        "not readable: maxRunning",
    )


def test_a_pause_is_shown_until_it_ends() -> None:
    until = (NOW + timedelta(minutes=1)).isoformat()
    item = spokelimit("all", paused={"reason": "stop", "by": "ann", "until": until})
    text = "paused by ann (SpokeLimit a) until 2026-01-01 12:01 UTC: stop"
    assert conditions(item)["Paused"] == ("True", "Paused", text)
    assert conditions(item, 60)["Paused"] == ("False", "PauseEnded", "")


def test_a_condition_keeps_its_time_and_only_counts_are_not_urgent() -> None:
    item = spokelimit("all", maxRunning=1)
    first = status(item)
    again = replace(item, status=first)
    assert status(again, 60) == first
    fewer = status_of(again, Usage().in_scope, count_waiting([], [item]), NOW)
    assert not is_urgent(first, fewer)
    assert is_urgent(first, status(replace(again, generation=5)))
