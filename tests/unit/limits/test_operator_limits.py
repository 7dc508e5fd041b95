"""The SpokeLimits by which sync publishes the ledger's limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings, strategies
from tests.conftest import open_ledger

from spoke_jobs.contract import names
from spoke_jobs.contract.limit_scopes import NAMED, Scope, ScopeKind
from spoke_jobs.errors import InvalidLimit
from spoke_jobs.ledger.limits_and_pauses.limit_rows import OperatorLimits, SqlLimits
from spoke_jobs.limits.job_limit import Bounds, JobLimit, LimitPause, Rate, parse_scope
from spoke_jobs.limits.limit_file import LimitEntry, PauseEntry
from spoke_jobs.limits.operator_limits import ledger_digest, not_obeyed
from spoke_jobs.limits.published_limits import (
    Put,
    changes,
    labels_of,
    read_published_limit,
    spokelimit_name,
    to_publish,
)

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
LEDGER = ledger_digest("shop")
NAMES = strategies.text(
    strategies.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=60
)
SCOPES = strategies.one_of(
    strategies.sampled_from([Scope(kind) for kind in ScopeKind if kind not in NAMED]),
    strategies.builds(Scope, strategies.just(ScopeKind.QUEUE), NAMES),
    strategies.builds(Scope, strategies.just(ScopeKind.KEY), NAMES),
    strategies.builds(Scope, strategies.just(ScopeKind.ORGANIZATION), strategies.integers(0, 10**18).map(str)),
)
TEXTS = strategies.sampled_from(["", "upgrade", "é\n", "x" * 250])
PAUSES = strategies.builds(
    LimitPause,
    TEXTS,
    TEXTS,
    strategies.just(NOW),
    strategies.none() | strategies.datetimes(datetime(2020, 1, 1), timezones=strategies.just(UTC)),
)
LIMITS = strategies.builds(
    JobLimit,
    SCOPES,
    strategies.builds(
        Bounds,
        strategies.none() | strategies.integers(0, 10**6),
        strategies.none()
        | strategies.builds(
            Rate, strategies.integers(1, 10_000), strategies.integers(1, 7 * 86_400), strategies.integers(1, 10**6)
        ),
    ),
    strategies.none() | PAUSES,
)


def stored(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The object as the API server returns it."""
    return {"metadata": {"name": name, "uid": "u", "resourceVersion": "1", "labels": labels_of(LEDGER)}, "spec": spec}


def merged(old: Any, patch: Any) -> Any:
    """Apply a merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    found = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


@given(strategies.lists(SCOPES, unique=True, max_size=10))
@settings(deadline=None, max_examples=50)
def test_each_scope_has_an_object_name_of_its_own(scopes: list[Scope]) -> None:
    found = [spokelimit_name(scope, LEDGER) for scope in scopes]
    assert all(names.is_object_name(name) for name in found)
    assert len(set(found)) == len(scopes)


def test_scopes_that_read_alike_have_different_names() -> None:
    alike = ["queue:a b", "queue:a-b", "queue:A-b", "queue:a:b", "key:a-b", "queue:" + "x" * 40, "queue:" + "x" * 41]
    ledgers = (LEDGER, ledger_digest("texting"))
    found = {spokelimit_name(parse_scope(text), ledger) for text in alike for ledger in ledgers}
    assert len(found) == 2 * len(alike)


FEW = strategies.lists(LIMITS, max_size=5, unique_by=lambda limit: limit.scope)


@given(FEW, FEW)
@settings(deadline=None, max_examples=50)
def test_after_the_changes_nothing_is_left_to_change(before: list[JobLimit], after: list[JobLimit]) -> None:
    cluster: dict[str, dict[str, Any]] = {}
    for limits in (before, after):
        wanted = to_publish(limits, LEDGER)
        present = {
            name: view for name, body in cluster.items() if (view := read_published_limit(body, LEDGER)) is not None
        }
        for change in changes(wanted, present):
            if not isinstance(change, Put):
                del cluster[change.name]
            elif change.present is None:
                cluster[change.name] = stored(change.name, change.spec.to_spec())
            else:
                cluster[change.name]["spec"] = merged(cluster[change.name]["spec"], change.spec.to_patch())
        now_present = {name: view for name, body in cluster.items() if (view := read_published_limit(body, LEDGER))}
        assert not list(changes(wanted, now_present))
        assert {item["spec"]["scope"] for item in cluster.values()} == {
            str(limit.scope)
            for limit in limits
            if not not_obeyed(limit.scope) and (limit.pause is not None or limit.bounds != Bounds())
        }


def test_pauses_come_before_limits() -> None:
    limits = [
        JobLimit(parse_scope("all"), Bounds(1)),
        JobLimit(parse_scope("queue:z"), pause=LimitPause("stop", "ada", NOW)),
    ]
    assert [item.spec.scope for item in changes(to_publish(limits, LEDGER), {}) if isinstance(item, Put)] == [
        "queue:z",
        "all",
    ]


def test_fields_that_people_add_stay_and_are_not_written_again() -> None:
    wanted = to_publish([JobLimit(parse_scope("all"), Bounds(5))], LEDGER)
    ((name, spec),) = wanted.items()
    view = read_published_limit(stored(name, spec.to_spec() | {"weight": 3}), LEDGER)
    assert view is not None
    assert not list(changes(wanted, {name: view}))


@pytest.mark.parametrize("change", ["manager", "name", "ledger"])
def test_an_object_that_sync_did_not_make_for_this_ledger_is_not_read(change: str) -> None:
    body = stored("all" if change == "name" else "ledger-all", {"scope": "all"})
    if change != "name":
        body["metadata"]["labels"] |= {
            "manager": {names.LABEL_MANAGED_BY: "Helm"},
            "ledger": {names.LABEL_LEDGER: ledger_digest("texting")},
        }[change]
    assert read_published_limit(body, LEDGER) is None


def test_a_rate_of_each_is_published_as_a_spokelimit_that_the_operator_reads() -> None:
    scope = "each-queue"
    ((name, each),) = to_publish([JobLimit(parse_scope(scope), Bounds(rate=Rate(100, 60, 10)))], LEDGER).items()
    assert each.to_spec() == {"scope": scope, "rate": "100/min", "burst": 10}
    found = read_published_limit(
        {"metadata": {"name": name, "labels": labels_of(LEDGER)}, "spec": each.to_spec()}, LEDGER
    )
    assert found is not None
    assert found.spec == each


def test_a_rate_and_a_pause_are_published_together_and_one_stays_when_the_other_goes() -> None:
    scope = parse_scope("queue:a")
    pause = LimitPause("stop", "ada", NOW, NOW + timedelta(hours=1))
    ((_, both),) = to_publish([JobLimit(scope, Bounds(2, Rate(100, 60, 10)), pause)], LEDGER).items()
    assert both.to_spec() == {
        "scope": "queue:a",
        "maxRunning": 2,
        "rate": "100/min",
        "burst": 10,
        "paused": {"reason": "stop", "by": "ada", "until": "2026-03-01T09:00:00Z"},
    }
    ((_, rate),) = to_publish([JobLimit(scope, Bounds(rate=Rate(5)))], LEDGER).items()
    assert merged(both.to_spec(), rate.to_patch()) == {"scope": "queue:a", "rate": "5/s"} == rate.to_spec()
    ((_, paused),) = to_publish([JobLimit(scope, pause=pause)], LEDGER).items()
    assert merged(both.to_spec(), paused.to_patch()) == paused.to_spec()


RATE = Bounds(rate=Rate(5))
QUEUE = parse_scope("queue:a")
SPLIT = Scope(ScopeKind.QUEUE, "a\nb")


@pytest.fixture
def limits(sqlite_ledger_url: str) -> Iterator[OperatorLimits]:
    """The limits of a ledger whose jobs the operator starts. The code declares a rate of queue:a."""
    for ledger in open_ledger(sqlite_ledger_url):
        found = OperatorLimits(ledger.engine)
        found.declare({QUEUE: RATE}, "shop")
        yield found


def test_the_rate_of_a_scope_can_be_declared_changed_and_set_beside_a_pause(limits: OperatorLimits) -> None:
    limits.pause(QUEUE, "the carrier is down")
    limits.set(QUEUE, lambda old: replace(old, rate=Rate(9)))
    (found,) = limits.all()
    assert (found.bounds, found.pause and found.pause.reason) == (Bounds(rate=Rate(9)), "the carrier is down")
    limits.reset(QUEUE)
    limits.apply([LimitEntry(parse_scope("all"), Bounds(2, Rate(1, 60)))])
    assert [limit.bounds for limit in limits.all()] == [Bounds(2, Rate(1, 60)), RATE]


def test_a_scope_that_no_spokelimit_can_have_is_refused_and_may_be_freed(limits: OperatorLimits) -> None:
    for change in (
        lambda: limits.set(SPLIT, lambda _old: Bounds(2)),
        lambda: limits.pause(SPLIT, "upgrade"),
        lambda: limits.apply([LimitEntry(SPLIT, pause=PauseEntry("upgrade"))]),
    ):
        with pytest.raises(InvalidLimit, match="no SpokeLimit can have this scope"):
            change()
    SqlLimits(limits._engine).pause(SPLIT, "upgrade")
    limits.apply([LimitEntry(SPLIT, pause=False)])
    assert [limit.scope for limit in limits.all()] == [QUEUE]
