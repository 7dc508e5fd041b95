"""Which groups are reported, and when."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from spoke_jobs.ledger.notices.notice_values import FailedRun, FailureGroup, GroupName, Mute, UnreportedGroups
from spoke_jobs.notices.notice_decisions import (
    MOST_GROUPS,
    MOST_UNCONFIRMED,
    NoticeKind,
    Rhythm,
    counted,
    decide,
    muted,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RHYTHM = Rhythm(timedelta(hours=1), timedelta(days=1))
NAME = GroupName("report", "JobError", "E@app.f")
NAMES = st.builds(
    GroupName, st.sampled_from(["a", "b"]), st.sampled_from(["JobError", "Timeout"]), st.sampled_from(["", "E@f"])
)
MINUTES = st.integers(0, 5_000)


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def run(job_id: int, minutes: float = 0, name: GroupName = NAME) -> FailedRun:
    return FailedRun(job_id, 1, name, at(minutes))


def group(name: GroupName = NAME, unreported: int = 1, reported_at: datetime | None = None) -> FailureGroup:
    return FailureGroup(name, NOW, NOW, 1, unreported, NOW if unreported else None, reported_at)


def mute(until: datetime = NOW + timedelta(minutes=1), **about: str) -> Mute:
    return Mute(1, **({"job_type": None, "cause": None, "fingerprint": None} | about), until=until,
                reason="known", muted_by="ada", muted_at=NOW)  # fmt: skip


class TestCounting:
    @given(st.lists(st.tuples(NAMES, MINUTES), max_size=30), st.integers(1, 5))
    def test_each_failure_is_in_the_group_of_its_name_however_it_is_read(
        self, failures: list[tuple[GroupName, int]], batch: int
    ) -> None:
        """No failure of these is more than a quiet time after the one before it, or the count would begin anew."""
        rhythm = replace(RHYTHM, quiet=timedelta(days=100))
        runs = [run(number, minutes, name) for number, (name, minutes) in enumerate(failures)]
        at_once = counted({}, runs, rhythm)
        in_batches: dict[GroupName, FailureGroup] = {}
        for start in range(0, len(runs), batch):
            in_batches |= counted(in_batches, runs[start : start + batch], rhythm)
        assert {name: each.unreported for name, each in at_once.items()} == Counter(each.name for each in runs)
        for name, found in at_once.items():
            times = sorted(each.finished_at for each in runs if each.name == name)
            assert (found.known_since, found.oldest_at, found.newest_at) == (times[0], times[0], times[-1])
            other = in_batches[name]
            assert (other.known_since, other.oldest_at, other.newest_at) == (times[0], times[0], times[-1])
            assert other.unreported == found.unreported
            assert found.job_id in {each.job_id for each in runs if each.finished_at == times[-1]}

    def test_after_a_quiet_time_it_is_new(self) -> None:
        known = group(unreported=0, reported_at=NOW)
        minutes = RHYTHM.quiet.total_seconds() / 60
        (still,) = counted({NAME: known}, [run(7, minutes)], RHYTHM).values()
        (anew,) = counted({NAME: known}, [run(7, minutes + 1)], RHYTHM).values()
        assert still.reported_at == NOW
        assert (anew.reported_at, anew.known_since, anew.unreported) == (None, at(minutes + 1), 1)

    def test_failures_that_wait_to_be_reported_are_not_forgotten(self) -> None:
        known = group(unreported=3, reported_at=NOW)
        (found,) = counted({NAME: known}, [run(7, 10_000)], RHYTHM).values()
        assert (found.unreported, found.known_since) == (4, NOW)

    @given(st.lists(st.tuples(st.text(), st.text(), st.text()), unique=True, min_size=2, max_size=2))
    def test_names_have_keys_of_their_own(self, names: list[tuple[str, str, str]]) -> None:
        encoded = {tuple(part.encode("utf-8", "replace") for part in name) for name in names}
        assert len({GroupName(*name).key for name in names}) == len(encoded)


def together(*groups: FailureGroup) -> UnreportedGroups:
    """What the ledger tells of these groups."""
    largest = sorted(groups, key=lambda each: each.unreported)[-MOST_GROUPS:]
    reported_at = [each.reported_at for each in groups if each.reported_at is not None]
    failures = sum(each.unreported for each in groups)
    return UnreportedGroups(tuple(largest), len(groups), failures, min(reported_at, default=None))


NONE = together()


class TestDeciding:
    @pytest.mark.parametrize(
        ("reported", "digest", "due"),
        [
            (-60, None, True),
            (-59, None, False),
            (-60, -60, True),
            (-60, -59, False),
            (-500, -1, False),
            (-1, -500, False),
        ],
    )
    def test_a_known_one_once_its_notice_and_the_digest_are_a_period_ago(
        self, reported: int, digest: int | None, due: bool
    ) -> None:
        known = together(group(unreported=2, reported_at=at(reported)))
        notices = decide(NONE, known, NOW, None if digest is None else at(digest), RHYTHM)
        assert [notice.kind for notice in notices] == ([NoticeKind.DIGEST] if due else [])

    def test_with_many_notices_unconfirmed_none_is_made(self) -> None:
        assert decide(together(group()), NONE, NOW, None, RHYTHM, MOST_UNCONFIRMED) == ()
        assert decide(together(group()), NONE, NOW, None, RHYTHM, MOST_UNCONFIRMED - 1)

    @given(st.lists(st.tuples(NAMES, st.integers(1, 9), st.none() | MINUTES), unique_by=lambda each: each[0]),
           st.none() | MINUTES)  # fmt: skip
    def test_each_failure_of_a_kind_is_reported_or_kept(
        self, known: list[tuple[GroupName, int, int | None]], digest: int | None
    ) -> None:
        groups = [group(name, number, None if reported is None else at(-reported)) for name, number, reported in known]
        new = [each for each in groups if each.reported_at is None]
        old = [each for each in groups if each.reported_at is not None]
        notices = decide(together(*new), together(*old), NOW, None if digest is None else at(-digest), RHYTHM)
        of_kind = {NoticeKind.NEW: new, NoticeKind.DIGEST: old}
        for notice in notices:
            assert set(notice.groups) == set(of_kind[notice.kind])
            assert notice.failures == sum(each.unreported for each in notice.groups)
        assert any(notice.kind is NoticeKind.NEW for notice in notices) == bool(new), "new ones never wait"

    @given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
    def test_however_often_it_fails_digests_are_a_period_apart(self, pauses: list[int]) -> None:
        """A group fails at each of many looks."""
        known, digest_at, now, made = {}, None, NOW, []
        total = 0
        for number, pause in enumerate(pauses):
            now += timedelta(minutes=pause)
            known |= counted(known, [FailedRun(number, 1, NAME, now)], RHYTHM)
            is_new = known[NAME].reported_at is None
            there = together(*known.values())
            for notice in decide(there if is_new else NONE, NONE if is_new else there, now, digest_at, RHYTHM):
                known[NAME] = replace(known[NAME], unreported=0, oldest_at=None, reported_at=now)
                made.append(now)
                total += notice.failures
                digest_at = now if notice.kind is NoticeKind.DIGEST else digest_at
        assert made[0] == NOW + timedelta(minutes=pauses[0])
        assert all(later - earlier >= RHYTHM.period for earlier, later in pairwise(made))
        assert total + known[NAME].unreported == len(pauses), "each failure counts once"


class TestMutes:
    @pytest.mark.parametrize(
        ("about", "covers"),
        [
            ({"job_type": "report"}, True),
            ({"job_type": "re*t"}, True),
            ({"job_type": "repor"}, False),
            ({"cause": "JobError", "fingerprint": "E@app.f"}, True),
            ({"cause": "JobError", "fingerprint": "E@app.g"}, False),
            ({"fingerprint": ""}, False),
            ({"cause": "Job*"}, False),
        ],
    )
    def test_all_that_is_given_must_match(self, about: dict[str, str], covers: bool) -> None:
        assert mute(**about).covers(NAME, NOW) is covers

    def test_the_muted_are_found_by_their_keys(self) -> None:
        names = {"a": NAME, "b": GroupName("export", "Timeout", ""), "c": GroupName("mail", "Timeout", "")}
        assert muted(names, [mute(job_type="rep*"), mute(job_type="mail")], NOW) == ["a", "c"]
        assert muted(names, [mute(until=NOW, job_type="*")], NOW) == []

    def test_it_has_an_end(self) -> None:
        ended = mute(until=at(5), cause="JobError")
        assert ended.covers(NAME, at(4.9))
        assert not ended.covers(NAME, at(5))
