"""Admission under limits: scopes, several limits at once, buckets; and a state machine that counts for itself."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.contract.predicates import covers

from spoke_jobs.contract.limit_scopes import DIMENSIONS, NAMED, SCOPE_LIMIT, Scope, ScopeKind, Subject
from spoke_jobs.contract.wait_reasons import WaitReason
from spoke_jobs.contract.wait_text import sentence
from spoke_jobs.errors import InvalidLimit
from spoke_jobs.limits.admission import Admission, Bucket, LimitSet
from spoke_jobs.limits.job_limit import Bounds, JobLimit, LimitPause, Rate, changed_bounds, parse_scope, unknown_type

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
TYPES = ("mail", "ingest.csv", "ingest.a.b")
QUEUES = ("", "slow")
ORGANIZATIONS = (None, 7, 8)
KEYS = (None, "twilio")
SCOPES = (
    *("all", "key:twilio", "type:mail", "type:ingest.*", "type:ingest.a.*", "queue:slow", "organization:7"),
    *("each-type", "each-queue", "each-organization"),
)


def job_limit(scope: str, number: int = 1, **fields: object) -> JobLimit:
    return JobLimit(parse_scope(scope), id=number, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [*SCOPES, "queue:a:b c", "type:a*b"[:6]])
def test_a_scope_is_read_and_written(text: str) -> None:
    assert str(Scope.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "ALL", "all:", "all:x", "type", "type:", "type:*", "type:a*", "type:*.b", "type:a.*.*", "type:.*"),
        *("organization:", "organization:x", "organization:-1", "organization:٣", "each-key", "each-type:x"),
        *("queue:a\x00", "queue:\ud800", "queue:" + "x" * SCOPE_LIMIT),
    ],
)
def test_what_is_no_scope_is_refused(text: str) -> None:
    assert Scope.parse(text) is None
    with pytest.raises(InvalidLimit, match="is not a scope: give all"):
        parse_scope(text)


@pytest.mark.parametrize(
    ("text", "interval"),
    [("5/s", 200_000), ("100/min", 600_000), ("3/s", 333_334), ("10/30s", 3_000_000), ("1/7d", 604_800_000_000)],
)
def test_a_rate_s_tokens_come_in_whole_microseconds_never_too_early(text: str, interval: int) -> None:
    assert Rate.parse(text).interval == interval
    assert Rate.parse(str(Rate.parse(text))) == Rate.parse(text)
    assert Rate.from_text(str(Rate.parse(text, 7))) == Rate.parse(text, 7)


def test_a_doubled_rate_can_be_kept() -> None:
    assert Rate(5, 30, 2).doubled == Rate(10, 30, 2)
    assert Rate(9_000).doubled == Rate(10_000)
    assert Rate(600_000, 86_400).doubled == Rate(1_000_000, 86_400)


def test_bounds_are_changed_one_by_one_and_removed() -> None:
    bounds = changed_bounds(Bounds(), 5, "10/s", 3)
    assert bounds == Bounds(5, Rate(10, 1, 3))
    assert changed_bounds(bounds, 6) == Bounds(6, Rate(10, 1, 3))
    assert changed_bounds(bounds, rate="1/h") == Bounds(5, Rate(1, 3600, 3))
    assert changed_bounds(bounds, burst=9) == Bounds(5, Rate(10, 1, 9))
    assert changed_bounds(bounds, None, None) == Bounds()
    assert Bounds.from_json(bounds.to_json()) == bounds


def test_a_type_that_nobody_declares_is_named_with_the_closest() -> None:
    names = ["export_contacts", "ingest.csv", "mail.*"]
    assert "Did you mean 'export_contacts'?" in unknown_type(parse_scope("type:exportcontacts"), names)
    for known in ("type:ingest.csv", "type:ingest.*", "type:mail.out", "type:mail.*", "queue:nowhere", "all"):
        assert unknown_type(parse_scope(known), names) == ""


@pytest.mark.parametrize("rate", [None, Rate.parse("5/s", 5)])
def test_running_jobs_without_a_type_fill_no_limit_of_other_types(rate: Rate | None) -> None:
    """Other code may have written their rows."""
    limits = LimitSet([job_limit("each-type", bounds=Bounds(2, rate)), job_limit("all", 2, bounds=Bounds(4))])
    admission = Admission(limits, {Subject("", "", None): 3}, NOW)
    assert not covers(admission.closed(), Subject("mail", "", None))
    assert admission.admit(Subject("mail", "", None))
    assert admission.closed().everything, "they count toward the limit on all jobs"


def test_the_narrowest_reason_is_named_and_a_pause_before_all() -> None:
    limits = [
        job_limit("all", 1, bounds=Bounds(1)),
        job_limit("type:mail", 2, bounds=Bounds(1)),
        job_limit("organization:7", 3, bounds=Bounds(1)),
    ]
    subject = Subject("mail", "slow", 7)
    running = {subject: 1}

    def held(*more: JobLimit) -> str:
        wait = Admission(LimitSet([*limits, *more]), running, NOW).why_held(subject)
        assert wait is not None
        return sentence(wait)

    assert held() == "running jobs of the type 'mail': 1 of at most 1 (limit type:mail)"
    pause = LimitPause("upgrade", "ada", NOW)
    assert "upgrade" in held(job_limit("each-queue", 4, pause=pause))
    over = LimitPause("upgrade", "ada", NOW - timedelta(hours=2), NOW)
    assert "upgrade" not in held(job_limit("each-queue", 4, pause=over))


def test_a_clock_that_was_set_back_stops_a_rate_for_no_longer_than_it_takes_to_fill() -> None:
    rated = job_limit("all", bounds=Bounds(rate=Rate(1, 60)), full_at=NOW + timedelta(days=3))
    admission = Admission(LimitSet([rated]), {}, NOW)
    assert admission.admit(Subject("mail", "", None))
    assert admission.taken == {(1, ""): NOW + timedelta(minutes=1)}
    assert not admission.admit(Subject("mail", "", None))


def test_a_bucket_of_the_whole_scope_holds_for_each_queue() -> None:
    """Workers of an earlier release have taken tokens, and nobody knows of which queue."""
    rated = job_limit("each-queue", bounds=Bounds(rate=Rate(1, 60, 2)), full_at=NOW + timedelta(days=3))
    assert not covers(Admission(LimitSet([rated]), {}, NOW).closed(), Subject("mail", "slow", None))
    common = {(1, ""): NOW + timedelta(minutes=2), (1, "slow"): NOW + timedelta(minutes=3)}
    for queue, seconds in (("quick", 60), ("slow", 120)):
        wait = Admission(LimitSet([rated]), {}, NOW, common).why_held(Subject("mail", queue, None))
        assert wait is not None
        assert wait.retry_at == NOW + timedelta(seconds=seconds)
    closed = Admission(LimitSet([rated]), {}, NOW, common).closed()
    assert covers(closed, Subject("mail", "quick", None))
    assert not covers(closed, Subject("mail", "", None)), "no queue, no token"
    assert not closed.lasting
    less = Admission(LimitSet([rated]), {}, NOW, {(1, ""): NOW + timedelta(minutes=1)})
    assert less.admit(Subject("mail", "quick", None))
    assert not less.admit(Subject("mail", "quick", None))
    assert less.admit(Subject("mail", "slow", None))
    assert less.taken == {(1, name): NOW + timedelta(minutes=2) for name in ("quick", "slow")}


@given(
    scope=strategies.sampled_from([f"each-{kind}" for kind in ("type", "queue", "organization")]),
    rate=strategies.builds(Rate, strategies.integers(1, 3), strategies.just(1), strategies.integers(1, 3)),
    steps=strategies.lists(
        strategies.tuples(strategies.sampled_from("7889"), strategies.sampled_from([0, 0, 0.1, 0.34, 1, 4])),
        min_size=10,
        max_size=40,
    ),
)
def test_under_a_rate_of_each_a_job_starts_exactly_if_the_bucket_of_its_own_name_has_a_token(
    scope: str, rate: Rate, steps: list[tuple[str, float]]
) -> None:
    limits = LimitSet([job_limit(scope, bounds=Bounds(rate=rate))])
    buckets: dict[Bucket, datetime | None] = {}
    starts: dict[str, list[datetime]] = {}
    now = NOW
    for name, seconds in steps:
        now += timedelta(seconds=seconds)
        subject = Subject(name, name, int(name))
        due = {name: max(due_times(rate, times)) for name, times in starts.items()}
        held = due.get(name, now) > now
        admission = Admission(limits, {}, now, buckets)
        assert covers(admission.closed(), subject) == held
        wait = admission.why_held(subject)
        assert (wait and wait.retry_at) == (due[name] if held else None)
        first = min((at for at in due.values() if at > now), default=None)
        assert admission.next_token_seconds() == (None if first is None else (first - now).total_seconds())
        assert admission.admit(subject) is not held
        if not held:
            starts.setdefault(name, []).append(now)
        buckets = {key: at for key, at in (buckets | admission.taken).items() if at is not None and at > now}


def due_times(rate: Rate, starts: list[datetime]) -> list[datetime]:
    """When one more start exceeds the rate no more, for each window that ends with it."""
    interval = timedelta(microseconds=rate.interval)
    return [since + (len(starts) - index + 1 - rate.burst) * interval for index, since in enumerate(starts)]


def test_jobs_without_a_type_take_no_tokens_of_other_types() -> None:
    """Other code may have written their rows."""
    admission = Admission(LimitSet([job_limit("each-type", bounds=Bounds(rate=Rate(1, 60)))]), {}, NOW)
    assert [admission.admit(Subject("", "", None)) for _ in range(3)] == [True] * 3
    assert admission.admit(Subject("mail", "", None))
    assert admission.taken == {(1, "mail"): NOW + timedelta(minutes=1)}


def test_names_of_any_length_have_buckets_whose_names_are_short() -> None:
    """Other code may have written them."""
    rated = job_limit("each-queue", bounds=Bounds(rate=Rate(1, 60)))
    admission = Admission(LimitSet([rated]), {}, NOW)
    long = [Subject("mail", "q" * 5_000 + end, None) for end in "ab"]
    assert [admission.admit(subject) for subject in (*long, *long)] == [True, True, False, False]
    assert all(len(name) < 100 for _, name in admission.taken)
    assert admission.admit(Subject("mail", "\ud800" * 300, None))


class Admitting(RuleBasedStateMachine):
    """Jobs start, end, and limits change, while an independent count checks every start."""

    @initialize()
    def begin(self) -> None:
        """Start without limits."""
        self.now = NOW
        self.limits: dict[str, JobLimit] = {}
        self.running: Counter[Subject] = Counter()
        self.starts: dict[tuple[str, str], list[datetime]] = {}
        """By the scope, and with one of each, also by the name."""
        self.buckets: dict[Bucket, datetime | None] = {}

    def members(self, scope: str, subject: Subject) -> str | None:
        """What a scope counts a job as, by the words of the documentation; None if it does not apply."""
        kind, _, name = scope.partition(":")
        value = {
            "all": "",
            "type": subject.job_type,
            "queue": subject.queue_name or None,
            "organization": None if subject.organization_id is None else str(subject.organization_id),
            "key": subject.limit_key,
        }[kind.removeprefix("each-")]
        if not name:
            return value
        return name if value == name or (name.endswith(".*") and (value or "").startswith(name[:-1])) else None

    @rule(
        scope=strategies.sampled_from(SCOPES),
        most=strategies.none() | strategies.integers(0, 4),
        rate=strategies.none() | strategies.builds(Rate, strategies.integers(1, 9), strategies.integers(1, 3)),
        burst=strategies.integers(1, 4),
        paused=strategies.sampled_from([None, None, None, 5, 1000]),
    )
    def change(self, scope: str, most: int | None, rate: Rate | None, burst: int, paused: int | None) -> None:
        """Set a limit. A change of its rate begins a new count of starts."""
        if rate is not None:
            rate = Rate(rate.count, rate.seconds, burst)
        pause = None if paused is None else LimitPause("why", "ada", self.now, self.now + timedelta(seconds=paused))
        number = SCOPES.index(scope) + 1
        old = self.limits.get(scope)
        if old is None or old.bounds.rate != rate:
            self.starts = {key: times for key, times in self.starts.items() if key[0] != scope}
            self.buckets = {bucket: at for bucket, at in self.buckets.items() if bucket[0] != number}
        self.limits[scope] = job_limit(scope, number, bounds=Bounds(most, rate), pause=pause)

    @rule(seconds=strategies.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0, 7.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    @rule(data=strategies.data())
    def end(self, data: strategies.DataObject) -> None:
        """End some jobs."""
        for subject in list(self.running):
            self.running[subject] -= data.draw(strategies.integers(0, self.running[subject]))

    @rule(
        subjects=strategies.lists(
            strategies.builds(
                Subject, *(strategies.sampled_from(values) for values in (TYPES, QUEUES, ORGANIZATIONS, KEYS))
            ),
            min_size=1,
            max_size=12,
        )
    )
    def claim(self, subjects: list[Subject]) -> None:
        """Claim jobs: those that are held must have a reason that is true, and the others none."""
        limits = LimitSet(self.limits.values())
        admission = Admission(limits, self.running, self.now, self.buckets)
        closed = admission.closed()
        due, apart = Counter(subjects), Admission(limits, self.running, self.now, self.buckets)
        assert admission.startable(due) == sum(map(apart.admit, due.elements()))
        for subject in subjects:
            wait = admission.why_held(subject)
            shut = (
                closed.everything
                or bool(closed.types & {subject.job_type, *self.patterns(subject.job_type)})
                or bool(subject.queue_name and ScopeKind.QUEUE in closed.every)
                or (subject.organization_id is not None and ScopeKind.ORGANIZATION in closed.every)
                or (ScopeKind.QUEUE, subject.queue_name) in closed.named
                or (ScopeKind.ORGANIZATION, str(subject.organization_id)) in closed.named
                or (ScopeKind.KEY, subject.limit_key) in closed.named
            )
            assert shut == covers(closed, subject)
            assert not shut or wait is not None, "a search leaves out a job that may start"
            assert admission.admit(subject) == (wait is None)
            if wait is None:
                self.running[subject] += 1
                for scope in self.limits:
                    if (name := self.members(scope, subject)) is not None:
                        self.starts.setdefault(self.counted(scope, name), []).append(self.now)
            else:
                assert wait.code in {reason.value for reason in WaitReason}
                assert sentence(wait)
        self.buckets |= admission.taken
        self.check_starts_of(subjects, admission)

    @staticmethod
    def counted(scope: str, name: str) -> tuple[str, str]:
        """Whose starts a rate counts together."""
        return scope, name if scope.startswith("each-") else ""

    @rule()
    def full_buckets_are_forgotten(self) -> None:
        """As the ledgers do."""
        self.buckets = {key: at for key, at in self.buckets.items() if at is not None and at > self.now}

    def patterns(self, name: str) -> set[str]:
        """The patterns that a type matches."""
        return {f"{name[:index]}.*" for index, letter in enumerate(name) if letter == "."}

    def check_starts_of(self, subjects: list[Subject], admission: Admission) -> None:
        """What is held after the claim is paused, full, or over its rate: nothing else holds a job."""
        for subject in subjects:
            mine = [
                (limit, name)
                for scope, limit in self.limits.items()
                if (name := self.members(scope, subject)) is not None
            ]
            expected = any(
                limit.paused_at(self.now) is not None
                or (
                    limit.bounds.max_running is not None
                    and self.count(str(limit.scope), name) >= limit.bounds.max_running
                )
                or self.over_rate(limit, name)
                for limit, name in mine
            )
            assert (admission.why_held(subject) is not None) == expected

    def count(self, scope: str, name: str) -> int:
        """How many jobs run under a limit."""
        return sum(number for subject, number in self.running.items() if self.members(scope, subject) == name)

    def over_rate(self, limit: JobLimit, name: str) -> bool:
        """Whether one more start now would exceed the rate in some window that ends now."""
        rate = limit.bounds.rate
        starts = self.starts.get(self.counted(str(limit.scope), name), [])
        return rate is not None and any(
            len(starts) - index + 1 > rate.burst + (self.now - since) / timedelta(microseconds=rate.interval)
            for index, since in enumerate(starts)
        )

    @invariant()
    def no_rate_is_exceeded_in_any_window(self) -> None:
        """Count the starts of every window: at most the burst and the tokens that came in it."""
        for (scope, _), starts in getattr(self, "starts", {}).items():
            if (rate := self.limits[scope].bounds.rate) is None:
                continue
            for first in range(len(starts)):
                for last in range(first, len(starts)):
                    tokens = (starts[last] - starts[first]) / timedelta(microseconds=rate.interval)
                    assert last - first + 1 <= rate.burst + tokens


TestAdmitting = Admitting.TestCase
TestAdmitting.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_every_kind_of_scope_has_a_reason_of_its_own() -> None:
    values: dict[str, Any] = {dimension.field: 7 if dimension.is_number else "7" for dimension in DIMENSIONS}
    everything = Subject(**values)
    for kind in ScopeKind:
        name = "7" if kind in NAMED else ""
        limits = LimitSet([JobLimit(Scope(kind, name), Bounds(0), id=1)])
        wait = Admission(limits, {}, NOW).why_held(everything)
        assert wait is not None
        assert sentence(wait).endswith(f"0 of at most 0 (limit {Scope(kind, name)})")


def test_metrics_show_the_limits_with_the_least_room_and_of_each_queue_the_busiest() -> None:
    limits = LimitSet(
        [
            job_limit("all", 1, bounds=Bounds(max_running=9)),
            job_limit("each-queue", 2, bounds=Bounds(max_running=3)),
            job_limit("type:mail", 3, bounds=Bounds(max_running=4)),
            job_limit("queue:slow", 4, pause=LimitPause("an outage", "sam", NOW)),
            job_limit("queue:over", 5, pause=LimitPause("an outage", "sam", NOW, NOW)),
        ]
    )
    running = {Subject("mail", "slow", None): 2, Subject("mail", "fast", None): 1, Subject("sms", "", None): 4}
    figures = Admission(limits, running, NOW).figures(2)
    assert figures.uses == (("each-queue", 3, 2), ("type:mail", 4, 3))
    assert figures.paused == {"queue:slow": "sam"}
    assert Admission(limits, running, NOW).figures(9).uses[-1] == ("all", 9, 7)
