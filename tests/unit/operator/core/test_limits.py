"""What limits, pauses, caps and weights come to, of settings, SpokeLimits and Namespaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.unit.operator.core.objects import NOW

from spoke_jobs.contract import wait_text
from spoke_jobs.contract.limit_model import Pause, applying
from spoke_jobs.contract.limit_scopes import Scope, Subject
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.limits.admission import Admission, LimitSet
from spoke_jobs.limits.job_limit import Bounds, JobLimit, LimitPause, parse_scope
from spoke_jobs.limits.operator_limits import ledger_digest
from spoke_jobs.limits.published_limits import to_publish
from spoke_jobs_operator.core.admission.admit import Candidate, Usage, why_held
from spoke_jobs_operator.core.limits.limits import Bound, Limits, changed_namespaces, compiled, next_change
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.objects.limit_objects import (
    NamespaceView,
    SpokeLimitView,
    read_namespace,
    read_spokelimit,
)


def spokelimit(scope: str, name: str = "a", ns: str = "ns", **spec: Any) -> SpokeLimitView:
    metadata = {"name": name, "namespace": ns, "uid": f"uid-{name}", "resourceVersion": "1", "generation": 1}
    return read_spokelimit({"metadata": metadata, "spec": {"scope": scope} | spec})


def namespace(name: str = "ns", paused: str | None = None, **metadata: Any) -> NamespaceView:
    annotations = {} if paused is None else {"jobs.spoke.dev/paused": paused}
    return read_namespace({"metadata": {"name": name, "uid": "n", "annotations": annotations} | metadata})


def held(limits: Limits, *running: Candidate, **fields: Any) -> str | None:
    """Why a job is held, in a sentence."""
    wait = why_held(candidate("x", **fields), Usage.of(running), limits)
    return wait and wait_text.sentence(wait)


def candidate(
    name: str,
    *,
    queue: str = "",
    org: int | None = None,
    ns: str = "ns",
    priority: int = 0,
    type_: str = "mail",
    key: str = "",
) -> Candidate:
    return Candidate(Key(ns, name), priority, NOW, Subject(type_, queue, org, key or None))


def limits_of(*items: SpokeLimitView, base: Limits = Limits(), pauses: tuple[NamespaceView, ...] = ()) -> Limits:  # noqa: B008
    return compiled(base, items, pauses, NOW)


@pytest.mark.parametrize(
    "text",
    ["", "queue", "queue:", "all:x", "lane:pod", "type:a*", "key:", "organization:x", "organization:-1", "each-lane"],
)
def test_a_scope_of_another_release_is_not_known(text: str) -> None:
    assert Scope.parse(text) is None
    assert limits_of(spokelimit(text, maxRunning=0)) == Limits()


def of_type(name: str) -> str:
    return f"running jobs of the type {name!r}: 1 of at most 1 (SpokeLimit a)"


def test_each_scope_limits_its_own_jobs_and_is_named() -> None:
    running = [candidate("r", queue="q", org=1, type_="ingest.csv.big", key="k")]
    for scope, fields, text in (
        ("all", {}, "running jobs of the namespace: 1 of at most 1 (SpokeLimit a)"),
        ("queue:q", {"queue": "q"}, "running jobs of the queue 'q': 1 of at most 1 (SpokeLimit a)"),
        ("each-queue", {"queue": "q"}, "running jobs of the queue 'q': 1 of at most 1 (SpokeLimit a)"),
        ("organization:1", {"org": 1}, "running jobs of organization 1: 1 of at most 1 (SpokeLimit a)"),
        ("organization:01", {"org": 1}, "running jobs of organization 1: 1 of at most 1 (SpokeLimit a)"),
        ("each-organization", {"org": 1}, "running jobs of organization 1: 1 of at most 1 (SpokeLimit a)"),
        ("type:ingest.csv.big", {"type_": "ingest.csv.big"}, of_type("ingest.csv.big")),
        ("each-type", {"type_": "ingest.csv.big"}, of_type("ingest.csv.big")),
        ("type:ingest.csv.*", {"type_": "ingest.csv.small"}, of_type("ingest.csv.*")),
        ("type:ingest.*", {"type_": "ingest.xml"}, of_type("ingest.*")),
        ("key:k", {"key": "k"}, "running jobs with the key 'k': 1 of at most 1 (SpokeLimit a)"),
    ):
        limits = limits_of(spokelimit(scope, maxRunning=1))
        assert held(limits, *running, **fields) == text
        assert held(limits, *running, **fields, ns="other") is None, "a SpokeLimit is about its own namespace"
        assert (held(limits, *running, queue="p", org=2) is None) == (scope != "all")


def test_nothing_starts_with_a_limit_of_zero() -> None:
    assert held(Limits(running=0)) == "running jobs: 0 of at most 0 (SPOKE_OPERATOR_MAX_RUNNING)"
    assert held(Limits(in_namespace=0)) == (
        "running jobs of the namespace: 0 of at most 0 (SPOKE_OPERATOR_MAX_RUNNING_IN_NAMESPACE)"
    )
    assert held(limits_of(spokelimit("queue:q", maxRunning=0)), queue="q") == (
        "running jobs of the queue 'q': 0 of at most 0 (SpokeLimit a)"
    )


BOUNDS = st.lists(st.tuples(st.sampled_from(["queue:q", "each-queue", "queue:p"]), st.integers(0, 5)), max_size=6)


@settings(deadline=None)
@given(BOUNDS, st.none() | st.integers(0, 5))
def test_of_several_the_smallest_wins(given_: list[tuple[str, int]], setting: int | None) -> None:
    items = [spokelimit(scope, f"l{n}", maxRunning=most) for n, (scope, most) in enumerate(given_)]
    rules = limits_of(*items, base=Limits(in_queue=setting)).of("ns")
    bound = next((bound for _, bound in applying(rules.bounds, Subject("mail", "q", None))), None)
    expected = [most for scope, most in given_ if scope != "queue:p"] + ([] if setting is None else [setting])
    assert (bound.value if bound else None) == min(expected, default=None)


def test_settings_hold_where_no_object_does() -> None:
    base = Limits(in_namespace=3, in_queue=2, for_organization=1)
    limits = limits_of(spokelimit("all", weight=3), base=base)
    assert limits.of("ns").weight == 3
    for name in ("ns", "other"):
        rules = limits.of(name)
        bounds = [bound.value for _, bound in applying(rules.bounds, Subject("mail", "q", 5))]
        assert bounds == [2, 1, 3], "the narrowest first"
        assert [bound.value for _, bound in applying(rules.bounds, Subject("mail", "", None))] == [3]


def test_a_spokelimit_lowers_how_many_unfinished_ones_may_start_and_raises_it_not() -> None:
    for most, value, source in ((5, 5, "SpokeLimit a"), (9, 7, "SPOKE_OPERATOR_MAX_UNFINISHED_IN_NAMESPACE")):
        limits = limits_of(spokelimit("all", maxUnfinished=most), base=Limits(unfinished=7))
        assert limits.of("ns").unfinished == Bound(value, source)
        assert limits.of("other").unfinished == Bound(7, "SPOKE_OPERATOR_MAX_UNFINISHED_IN_NAMESPACE")
    assert limits.settings == {"unfinished": 7}


PAUSE: Mapping[str, Any] = {"reason": "maintenance", "by": "ann"}


def test_a_pause_holds_back_its_scope_and_says_who_and_why() -> None:
    for scope, fields in (
        ("all", {}),
        ("queue:q", {"queue": "q"}),
        ("each-queue", {"queue": "any"}),
        ("organization:1", {"org": 1}),
        ("each-organization", {"org": 9}),
        ("type:ingest.csv", {"type_": "ingest.csv"}),
        ("type:ingest.*", {"type_": "ingest.csv"}),
        ("key:k", {"key": "k"}),
    ):
        limits = limits_of(spokelimit(scope, paused=PAUSE))
        assert held(limits, **fields) == "paused by ann (SpokeLimit a): maintenance"
        assert (held(limits) is None) == (scope != "all")
        assert held(limits, **fields, ns="other") is None
        assert (held(limits, queue="another") is None) == (scope not in ("all", "each-queue"))
        assert (held(limits, org=2) is None) == (scope not in ("all", "each-organization"))
    paused = limits_of(spokelimit("each-type", paused=PAUSE))
    assert held(paused, type_="any") == "paused by ann (SpokeLimit a): maintenance"


def test_a_pause_ends_by_itself() -> None:
    end = NOW + timedelta(hours=1)
    item = spokelimit("all", paused=dict(PAUSE) | {"until": end.isoformat()})
    limits = compiled(Limits(), [item], [], NOW)
    assert held(limits) == "paused by ann (SpokeLimit a) until 2026-01-01 13:00 UTC: maintenance"
    assert next_change([item], NOW) == end
    later = compiled(Limits(), [item], [], end)
    assert held(later) is None
    assert next_change([item], end) is None
    assert changed_namespaces(limits, later) == {"ns"}


def test_a_namespace_s_annotation_pauses_it_with_what_the_api_server_knows() -> None:
    fields = {"f:metadata": {"f:annotations": {"f:jobs.spoke.dev/paused": {}}}}
    owner = {"manager": "kubectl-annotate", "time": "2026-01-01T11:00:00Z", "fieldsV1": fields}
    other = {"manager": "helm", "time": "2026-01-01T11:30:00Z", "fieldsV1": {"f:metadata": {}}}
    paused = namespace(paused="upgrade of the database", managedFields=[owner, other])
    limits = limits_of(pauses=(paused, namespace("free"), namespace("not", paused="false")))
    assert held(limits) == (
        "paused by kubectl-annotate (Namespace ns) since 2026-01-01 11:00 UTC: upgrade of the database"
    )
    assert held(limits, ns="free") is held(limits, ns="not") is None
    assert held(limits_of(pauses=(namespace(paused=""),))) == "paused by Namespace ns"


def test_the_operator_s_pause_is_everybody_s() -> None:
    base = Limits(paused=Pause("SPOKE_OPERATOR_PAUSED", "move"))
    for limits in (base, limits_of(spokelimit("all", weight=2), base=base)):
        assert held(limits) == held(limits, ns="other") == "paused by SPOKE_OPERATOR_PAUSED: move"


def test_a_job_s_priority_counts_up_to_the_cap_and_that_is_said() -> None:
    limits = limits_of(spokelimit("all", maxPriority=5, maxRunning=0), spokelimit("all", "b", maxPriority=9))
    assert [limits.of("ns").priority_of(priority) for priority in (-3, 5, 900)] == [-3, 5, 5]
    assert held(limits, priority=5) == "running jobs of the namespace: 0 of at most 0 (SpokeLimit a)"
    assert held(limits, priority=6) == (
        "running jobs of the namespace: 0 of at most 0 (SpokeLimit a); its priority counts as 5"
    )


def test_timeouts_of_a_namespace() -> None:
    def timeouts(**spec: int) -> list[int | None]:
        rules = limits_of(spokelimit("all", **spec)).of("ns")
        return [rules.timeout_of(seconds) for seconds in (None, 10, 1000)]

    assert timeouts() == [None, 10, 1000]
    assert timeouts(defaultTimeoutSeconds=60) == [60, 10, 1000]
    assert timeouts(maxTimeoutSeconds=100) == [100, 10, 100]
    assert timeouts(defaultTimeoutSeconds=60, maxTimeoutSeconds=100) == [60, 10, 100]


def test_one_that_can_t_be_read_limits_nothing_and_names_its_fields() -> None:
    item = spokelimit("all", maxRunning="many", weight=0)
    assert (item.spec, item.scope, item.problem) == (None, None, "maxRunning, weight")
    assert limits_of(item) == Limits()
    assert next_change([item], NOW) is None


SCOPES = ["all", "queue:q", "each-queue", "organization:1", "each-organization"]
SCOPES += ["type:mail", "type:in.a", "type:in.*", "type:in.a.*", "each-type", "key:k"]
JOBS = st.tuples(
    st.sampled_from(["mail", "in.a", "in.a.b", "in.*", "in"]),
    st.sampled_from(["", "q"]),
    st.sampled_from([None, 1]),
    st.sampled_from(["", "k"]),
)
PER_SCOPE = st.dictionaries(st.sampled_from(SCOPES), st.integers(0, 3) | st.just("paused"), max_size=5)


@settings(deadline=None)
@given(PER_SCOPE, st.lists(JOBS, max_size=5), JOBS)
def test_the_operator_decides_as_workers_do(
    given_: dict[str, int | str], running: list[tuple[Any, ...]], job: tuple[Any, ...]
) -> None:
    """The published limits of the ledger hold back the same jobs in the cluster, and name the same scope."""
    # Of a type that is itself called `in.*`, the operator counts all jobs of the prefix: more than each-type asks for.
    assume(job[0] != "in.*" or "each-type" not in given_)
    pause = LimitPause("maintenance", "ann", NOW)
    ledger = [
        JobLimit(
            parse_scope(scope), Bounds(None if most == "paused" else int(most)), pause if most == "paused" else None
        )
        for scope, most in given_.items()
    ]
    items = [
        spokelimit(name=name, **item.to_spec()) for name, item in to_publish(ledger, ledger_digest("shop")).items()
    ]

    def of(name: str, fields: tuple[Any, ...]) -> Candidate:
        type_, queue, org, key = fields
        return candidate(name, type_=type_, queue=queue, org=org, key=key)

    wait = why_held(of("x", job), Usage.of(of(f"r{n}", item) for n, item in enumerate(running)), limits_of(*items))
    subjects = Counter(Subject(type_, queue, org, key or None) for type_, queue, org, key in running)
    type_, queue, org, key = job
    expected = Admission(LimitSet(ledger), subjects, NOW).why_held(Subject(type_, queue, org, key or None))
    codes = {WaitReason.LIMIT_REACHED.value: WaitReason.NAMESPACE_LIMIT_REACHED.value}  # `all` is one namespace
    assert (wait and wait.code) == (expected and codes.get(expected.code, expected.code))


def test_a_change_of_one_limit_does_not_read_the_scopes_of_all_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant may have thousands, and the operator does nothing else meanwhile."""
    kinds = ("all", "type:mail", "type:mail.*", "queue:q", "organization:7", "key:k", "each-type", "later:form")
    items = [spokelimit(scope, f"l{number}", maxRunning=3) for number, scope in enumerate(kinds)]
    before = compiled(Limits(), items, [], NOW)

    def unread(_text: str) -> Scope:
        raise AssertionError("a scope is read again")

    monkeypatch.setattr(Scope, "parse", unread)
    assert compiled(Limits(), items, [], NOW) == before
    assert [item.scope is None for item in items] == [False] * 7 + [True]
