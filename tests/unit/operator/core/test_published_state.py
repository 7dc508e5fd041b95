from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.unit.operator.core.objects import NOW
from tests.unit.operator.world import World

from spoke_jobs.contract.custom_resources.spokejob import SpokeJob
from spoke_jobs.contract.limit_model import Pause
from spoke_jobs.contract.limit_scopes import Subject
from spoke_jobs.contract.operator_state import Publication, PublishedPool
from spoke_jobs.contract.start_rate import StartRate
from spoke_jobs_operator.core.admission.admit import Candidate, Usage
from spoke_jobs_operator.core.limits.limits import Bound, Limits, NamespaceLimits, RateBound
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.objects.read_objects import read_spokejob
from spoke_jobs_operator.core.reporting.job_counts import count_jobs
from spoke_jobs_operator.core.reporting.published_state import SHOWN_COUNTS, SHOWN_TURNS, report


def candidate(name: str, namespace: str = "jobs", *, queue: str = "", org: int | None = None) -> Candidate:
    return Candidate(Key(namespace, name), 0, NOW, Subject("", queue, org))


def spokejob(status: Mapping[str, Any], namespace: str = "jobs") -> SpokeJob:
    body = World().spokejob
    body["metadata"]["namespace"] = namespace
    item = read_spokejob(body | {"status": dict(status)})
    assert isinstance(item, SpokeJob)
    return item


def test_a_namespace_is_told_of_its_own_and_of_what_is_common_to_all() -> None:
    usage = Usage.of(
        [candidate("a", queue="q", org=1), candidate("b", queue="q"), candidate("c", "other", queue="secret", org=9)]
    )
    turns = [candidate("x"), candidate("y", "other"), candidate("z")]
    unfinished = [
        spokejob({}),
        spokejob({"outcome": "Waiting", "cause": "LimitReached"}),
        spokejob({"outcome": "Waiting", "cause": "LimitReached"}),
        spokejob({"outcome": "Waiting", "cause": "PodPending", "attempts": [{"number": 1, "job": "x-1"}]}),
        spokejob({"outcome": "Running"}),
        spokejob({"outcome": "Waiting", "cause": "QueueLocked"}, "other"),
    ]
    assert report("jobs", Limits(running=5, in_queue=2), usage, turns, unfinished).to_json() == {
        "limits": {"running": 5, "in_queue": 2},
        "namespaceLimits": {"each-queue": {"value": 2, "source": "SPOKE_OPERATOR_MAX_RUNNING_IN_QUEUE"}},
        "rates": [],
        "paused": [],
        "running": {"all": 3, "namespace": 2},
        "queues": {"q": 2},
        "organizations": {"1": 1},
        "waiting": 3,
        "starting": 1,
        "holds": [],
        "standby": [],
        "standbyPods": [],
        "reasons": {"LimitReached": 2, "New": 1, "PodPending": 1},
        "turns": ["x", "z"],
    }


def test_it_fits_into_an_object_however_many_there_are() -> None:
    many = [candidate(f"a-name-as-long-as-any-{n:06}", queue=f"queue-{n}" * 10, org=n) for n in range(3000)]
    busiest = [candidate("more", queue="busiest", org=-1)] * 2
    pools = [PublishedPool(template=f"{n:04}" + 249 * "t", free=n, starting=n, assigned=n) for n in range(1000)]
    published = report("jobs", Limits(), Usage.of(many + busiest), many, [], standby_pods=pools)
    state = published.to_json()
    queues, turns = state["queues"], state["turns"]
    assert isinstance(queues, dict)
    assert (next(iter(queues)), len(queues)) == ("busiest", SHOWN_COUNTS)
    assert isinstance(turns, list)
    assert len(state["standbyPods"]) == SHOWN_COUNTS
    assert (turns[0], len(turns)) == ("a-name-as-long-as-any-000000", SHOWN_TURNS)
    data = Publication(NOW, "me", published).to_data()
    assert json.loads(data["state"]) == state
    assert (data["operator"], data["time"]) == ("me", NOW.isoformat())
    assert len(data["state"]) < 100_000


def test_limits_and_pauses_of_its_objects_are_published_with_their_source() -> None:
    since = NOW.isoformat()
    rules = NamespaceLimits(
        bounds={
            "all": Bound(3, "SpokeLimit a"),
            "queue:q": Bound(0, "SpokeLimit b"),
            "organization:7": Bound(1, "SpokeLimit c"),
        },
        pauses={
            "each-queue": Pause("SpokeLimit d", "why", "ann", NOW, NOW),
            "organization:7": Pause("SpokeLimit e"),
            "each-organization": Pause("SpokeLimit f"),
        },
        unfinished=Bound(9, "SpokeLimit a"),
        max_priority=Bound(5, "SpokeLimit a"),
        max_timeout=Bound(60, "SpokeLimit a"),
        weight=4,
    )
    state = report("jobs", Limits(namespaces={"jobs": rules}), Usage(), [], []).to_json()
    assert state["namespaceLimits"] == {
        "all": {"value": 3, "source": "SpokeLimit a"},
        "queue:q": {"value": 0, "source": "SpokeLimit b"},
        "organization:7": {"value": 1, "source": "SpokeLimit c"},
        "maxUnfinished": {"value": 9, "source": "SpokeLimit a"},
        "maxPriority": {"value": 5, "source": "SpokeLimit a"},
        "maxTimeoutSeconds": {"value": 60, "source": "SpokeLimit a"},
        "weight": 4,
    }
    assert state["paused"] == [
        {"scope": "each-queue", "source": "SpokeLimit d", "by": "ann", "note": "why", "since": since, "until": since},
        {"scope": "organization:7", "source": "SpokeLimit e"},
        {"scope": "each-organization", "source": "SpokeLimit f"},
    ]


def test_rates_are_published_with_their_source_and_the_tokens_that_are_left() -> None:
    bound = RateBound(StartRate.parse("5/min", 3), Key("jobs", "carrier"))
    rules = NamespaceLimits(rates={"queue:q": (bound,)})
    usage = Usage()
    usage.rates.take([("q", (bound,))])
    state = report("jobs", Limits(namespaces={"jobs": rules}), usage, [], []).to_json()
    assert state["rates"] == [
        {"scope": "queue:q", "rate": "5/min, burst 3", "source": "SpokeLimit carrier", "tokens": 2}
    ]


def test_the_reasons_are_those_of_the_metrics() -> None:
    """A job that waits for its next attempt keeps the cause of the last one; that is not what it waits for."""
    backing_off = {"type": "Admitted", "status": "False", "reason": "BackingOff", "lastTransitionTime": NOW.isoformat()}
    unfinished = [
        spokejob({"outcome": "Waiting", "cause": "JobError", "conditions": [backing_off]}),
        spokejob({"outcome": "Waiting", "cause": "QueueLocked"}),
        spokejob({}),
        spokejob({"outcome": "Running", "cause": "JobError"}),
    ]
    reasons = report("jobs", Limits(), Usage(), [], unfinished).reasons
    assert reasons == {"BackingOff": 1, "QueueLocked": 1, "New": 1}
    counts = count_jobs(unfinished, lambda _key: False, lambda item: (item.namespace,))
    assert {waits.reason: count for waits, count in counts.waiting.items()} == reasons
