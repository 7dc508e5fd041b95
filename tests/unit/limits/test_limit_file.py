"""The file of `spoke-jobs limits apply`: what it may hold, and what it changes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings, strategies

from spoke_jobs.cli.commands.limit_input import parse, read_file
from spoke_jobs.contract.limit_scopes import Scope
from spoke_jobs.errors import InvalidLimit
from spoke_jobs.limits.job_limit import Bounds, Declared, JobLimit, LimitPause, Rate, Source, parse_scope, with_bounds
from spoke_jobs.limits.limit_file import APPLIED, LimitEntry, PauseEntry, applied, left_in_effect, read_entries

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
FILE = """
- {scope: all, max_running: 40}
- scope: queue:carrier
  rate: 5/s
  burst: 10
- scope: type:export
  max_running: 2
  paused: {reason: closing of the month, until: 2026-03-01T09:00:00Z}
- {scope: key:twilio, paused: false}
- {scope: key:carrier, max_running: 1, paused: }
"""


def after(present: Sequence[JobLimit], entries: Sequence[LimitEntry], **options: Any) -> list[JobLimit]:
    """The limits after the entries were applied, by scope."""
    found = {limit.scope: limit for limit in present}
    for change in applied(present, entries, NOW, **options):
        found[change.after.scope] = change.after
    return sorted((limit for limit in found.values() if limit.needed), key=lambda limit: str(limit.scope))


def bounds(limits: Sequence[JobLimit]) -> dict[str, str]:
    return {str(limit.scope): str(limit.bounds) for limit in limits}


def test_a_file_in_yaml_is_read() -> None:
    assert read_entries(parse(FILE)) == (
        LimitEntry(Scope.parse("all"), Bounds(40)),  # type: ignore[arg-type]
        LimitEntry(parse_scope("queue:carrier"), Bounds(None, Rate(5, 1, 10))),
        LimitEntry(parse_scope("type:export"), Bounds(2), PauseEntry("closing of the month", LATER)),
        LimitEntry(parse_scope("key:twilio"), None, False),
        LimitEntry(parse_scope("key:carrier"), Bounds(1)),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("scope: all", "give a list of limits"),
        ("", "give a list of limits"),
        ("- all", "entry 1: a limit is a mapping"),
        ("[{max_running: 2}]", "entry 1: it has no scope"),
        (
            "[{scope: all, max_running: 1}, {scope: report, max_running: 2}]",
            "entry 2 (report): 'report' is not a scope",
        ),
        ("[{scope: all}]", "entry 1 (all): it limits nothing"),
        ("[{scope: all, max_running: many}]", "entry 1 (all): max_running is 'many': give a whole number"),
        ("[{scope: all, max_runing: 2}]", "'max_runing' is not a field. Did you mean max_running?"),
        ("[{scope: all, rate: 5}]", "rate is 5: give a text like '5/s'"),
        ("[{scope: all, rate: 5/week}]", "'5/week' is not a rate"),
        ("[{scope: all, burst: 5}]", "burst belongs to a rate"),
        ("[{scope: all, paused: true}]", "paused is a reason"),
        ("[{scope: all, max_running: 2, max_running: 7}]", "'max_running' stands twice"),
        ("[{scope: all, paused: ' '}]", "paused is ' '"),
        ("[{scope: all, paused: {until: 2026-03-01T09:00:00Z}}]", "reason is None"),
        ("[{scope: all, paused: {reason: x, until: 2026-03-01T09:00}}]", "give a time with a time zone"),
        ("[{scope: all, paused: {reason: x, until: soon}}]", "until is 'soon'"),
        (
            "[{scope: 'organization:7', max_running: 1}, {scope: 'organization:07', max_running: 2}]",
            "entry 1 has the same",
        ),
        ("[{scope: all", "it is neither JSON nor YAML"),
        ("- !!python/object:os.system {}", "it is neither JSON nor YAML"),
        ("[{scope: all, paused: {reason: x, until: 2026-02-30}}]", "can't be read as YAML"),
    ],
)
def test_an_error_names_the_entry_and_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(InvalidLimit) as refused:
        read_entries(parse(text))
    assert problem in str(refused.value)


LAUGHS = "\n".join(["x0: &x0 [1, 1]", *(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]" for n in range(1, 60))])
"""Its last value has 2 ** 60 numbers."""


@pytest.mark.parametrize(
    "entry",
    [
        "{scope: *x59}",
        "{scope: all, rate: 5/s, burst: *x59}",
        "{scope: all, paused: {reason: *x59}}",
        "{scope: all, paused: {reason: a, until: *x59}}",
        f"{{scope: all, max_running: 0x{'f' * 9_999}}}",
    ],
)
def test_a_short_file_makes_no_long_message(entry: str) -> None:
    lines = LAUGHS.replace("\n", "\n  ")
    with pytest.raises(InvalidLimit) as refused:
        read_entries(parse(f"- {lines}\n- {entry}")[1:])  # type: ignore[index]
    assert len(str(refused.value)) < 500


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(InvalidLimit, match="has more than 4,000,000 characters"):
        read_file("/dev/zero", io.StringIO())


LEAVES = (
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(max_size=9)
)
KEYS = strategies.sampled_from(["scope", "max_running", "rate", "burst", "paused", "reason", "until", "x"])
VALUES = strategies.recursive(
    LEAVES | strategies.sampled_from(["all", "queue:a", "5/s", "2026-03-01T08:00Z", "0001-01-01T00:00+14:00"]),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(KEYS, inner, max_size=5),
    max_leaves=10,
)


@given(VALUES)
@settings(deadline=None, max_examples=60)
def test_any_value_is_read_or_refused(value: Any) -> None:
    try:
        entries = read_entries(value)
    except InvalidLimit:
        return
    found = after([], entries)
    assert not applied(found, entries, NOW), "applying a file again changes nothing"


def test_what_people_set_stays_and_a_reset_returns_to_the_file() -> None:
    entries = read_entries([{"scope": "queue:a", "max_running": 5}])
    (limit,) = after([], entries)
    assert (limit.bounds, limit.source, limit.declared_by) == (Bounds(5), Source.DEFAULT, APPLIED)
    changed = with_bounds(limit, Bounds(1))
    raised = read_entries([{"scope": "queue:a", "max_running": 7}])
    (change,) = applied([changed], raised, NOW)
    assert (change.after.bounds, change.after.default) == (Bounds(1), Bounds(7))
    assert str(change) == "max_running 7 (in effect: max_running 1, set at run time)"


def test_pruning_removes_what_an_earlier_file_declared_and_nothing_else() -> None:
    first = read_entries([{"scope": "queue:a", "max_running": 5}, {"scope": "queue:b", "max_running": 6}])
    code = JobLimit(parse_scope("type:x"), Bounds(2), source=Source.DEFAULT, default=Bounds(2), declared_by="shop")
    people = JobLimit(parse_scope("queue:c"), Bounds(3))
    present = [*after([], first), code, people]
    second = first[:1]
    assert bounds(after(present, second)) == bounds(present)
    assert bounds(after(present, second, prune=True)) == {
        "queue:a": "max_running 5", "queue:c": "max_running 3", "type:x": "max_running 2"
    }  # fmt: skip
    paused = [replace(limit, pause=LimitPause("stop", "ada", NOW)) for limit in present]
    left = next(limit for limit in after(paused, second, prune=True) if limit.scope.name == "b")
    assert (str(left.bounds), left.pause is not None) == ("no bounds", True), "a pause stays, as with a reset"
    shown = [str(change) for change in applied(paused, second, NOW, prune=True)]
    assert "removed; it stays paused: stop" in shown
    over = [replace(limit, pause=LimitPause("stop", "ada", NOW, LATER)) for limit in present]
    assert "removed" in [str(change) for change in applied(over, second, LATER, prune=True)], "a pause that is over"


def test_a_pause_is_set_kept_and_ended() -> None:
    entries = read_entries([{"scope": "all", "paused": "upgrade"}])
    (limit,) = after([], entries, by="ada")
    assert limit.pause == LimitPause("upgrade", "ada", NOW)
    assert not applied([limit], entries, LATER, by="bob"), "who paused it, and when, stays"
    assert applied([limit], read_entries([{"scope": "all", "max_running": 3}]), NOW)[0].after.pause == limit.pause
    assert after([limit], read_entries([{"scope": "all", "paused": False}])) == []
    ended = read_entries([{"scope": "all", "paused": {"reason": "x", "until": "2026-03-01T07:00Z"}}])
    assert after([], ended) == [], "a pause that is over pauses nothing"


def said(present: Sequence[JobLimit], entries: Sequence[LimitEntry], *, prune: bool = False) -> list[str]:
    """What is said besides the changes."""
    changes = applied(present, entries, NOW, prune=prune)
    return list(left_in_effect(present, changes, entries, NOW, prune=prune))


def test_it_is_said_that_what_people_set_stays_in_effect_also_if_nothing_changes() -> None:
    entries = read_entries([{"scope": "queue:a b", "max_running": 40}])
    (limit,) = after([], entries)
    assert said([limit], entries) == said([], entries) == []
    changed = with_bounds(limit, Bounds(7))
    expected = (
        "queue:a b: max_running 7, which somebody set, stays in effect, not max_running 40: "
        "`spoke-jobs limits reset 'queue:a b'` returns to the file's"
    )
    assert said([changed], entries) == [expected]
    paused = read_entries([{"scope": "queue:a b", "max_running": 40, "paused": "upgrade"}])
    assert [str(change) for change in applied([changed], paused, NOW)] == ["paused: upgrade"]
    assert said([changed], paused) == [expected]
    assert said([changed], read_entries([{"scope": "queue:a b", "max_running": 41}])) == [], "the change says it"
    assert said([changed], read_entries([{"scope": "queue:a b", "paused": "upgrade"}])) == []


def test_pruning_says_which_pauses_stay() -> None:
    (limit,) = after([], read_entries([{"scope": "all", "paused": "upgrade"}]))
    stays = "all: not in the file; it stays paused: upgrade. `spoke-jobs resume all` ends the pause"
    assert said([limit], [], prune=True) == [stays]
    assert said([limit], []) == []
    assert said([limit], read_entries([{"scope": "all", "max_running": 3}]), prune=True) == [], "it is listed"
    assert said([replace(limit, pause=LimitPause("upgrade", "ada", NOW, NOW))], [], prune=True) == [], "it is over"
    (bounded,) = after([], read_entries([{"scope": "all", "max_running": 3, "paused": "upgrade"}]))
    assert said([bounded], [], prune=True) == [], "the change says it"
    of_code = replace(bounded, replaced=Declared(Bounds(9), "shop"))
    assert [str(change) for change in applied([of_code], [], NOW, prune=True)] == [
        "max_running 9, as the code declares"
    ]
    assert said([of_code], [], prune=True) == [stays]
