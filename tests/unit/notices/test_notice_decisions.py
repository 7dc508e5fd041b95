"""Which groups are reported, and when."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from spoke_jobs.ledger.notices.notice_values import FailedRun, FailureGroup, GroupName, Mute
from spoke_jobs.notices.notice_decisions import (
    MOST_GROUPS,
    MOST_UNCONFIRMED,
    NoticeKind,
    Rhythm,
    counted,
    decide,
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

    def test_only_changed_groups_are_returned(self) -> None:
        other = GroupName("export", "JobError", "")
        assert set(counted({NAME: group(), other: group(other)}, [run(2)], RHYTHM)) == {NAME}

    def test_a_reported_group_goes_on(self) -> None:
        known = group(unreported=0, reported_at=NOW)
        (found,) = counted({NAME: known}, [run(7, 5)], RHYTHM).values()
        assert found == replace(known, newest_at=at(5), job_id=7, unreported=1, oldest_at=at(5))

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

    def test_one_that_is_committed_late_is_not_the_newest(self) -> None:
        (found,) = counted({NAME: group()}, [run(7, -5)], RHYTHM).values()
        assert (found.newest_at, found.job_id, found.oldest_at) == (NOW, 1, at(-5))

    @given(st.lists(st.tuples(st.text(), st.text(), st.text()), unique=True, min_size=2, max_size=2))
    def test_names_have_keys_of_their_own(self, names: list[tuple[str, str, str]]) -> None:
        encoded = {tuple(part.encode("utf-8", "replace") for part in name) for name in names}
        assert len({GroupName(*name).key for name in names}) == len(encoded)


class TestDeciding:
    def test_nothing_to_report(self) -> None:
        decision = decide([], [], NOW, None, RHYTHM)
        assert (decision.notices, decision.changed) == ((), ())

    def test_a_new_group_is_reported_at_once(self) -> None:
        decision = decide([group(unreported=3)], [], NOW, NOW, RHYTHM)
        (notice,) = decision.notices
        assert (notice.kind, notice.failures, notice.left_out) == (NoticeKind.NEW, 3, 0)
        assert notice.groups == (group(unreported=3),)
        assert decision.changed == (group(unreported=0, reported_at=NOW),)

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
        known = group(unreported=2, reported_at=at(reported))
        decision = decide([known], [], NOW, None if digest is None else at(digest), RHYTHM)
        assert [notice.kind for notice in decision.notices] == ([NoticeKind.DIGEST] if due else [])
        assert decision.changed == ((group(unreported=0, reported_at=NOW),) if due else ())

    def test_a_digest_has_all_known_groups(self) -> None:
        other = GroupName("export", "JobError", "")
        groups = [group(reported_at=at(-90)), group(other, 5, reported_at=at(-1))]
        (notice,) = decide(groups, [], NOW, None, RHYTHM).notices
        assert [each.name for each in notice.groups] == [other, NAME], "the largest first"

    def test_the_smallest_groups_are_left_out_and_counted(self) -> None:
        groups = [group(GroupName(f"t{number}", "JobError", ""), number + 1) for number in range(MOST_GROUPS + 3)]
        (notice,) = decide(groups, [], NOW, None, RHYTHM).notices
        assert len(notice.groups) == MOST_GROUPS
        assert notice.left_out == 3
        assert notice.failures == sum(each.unreported for each in groups)
        assert notice.groups[-1].unreported == 4

    def test_with_many_notices_unconfirmed_none_is_made_and_nothing_is_lost(self) -> None:
        decision = decide([group()], [], NOW, None, RHYTHM, MOST_UNCONFIRMED)
        assert (decision.notices, decision.changed) == ((), ())
        assert decide([group()], [], NOW, None, RHYTHM, MOST_UNCONFIRMED - 1).notices

    def test_muted_failures_are_forgotten_also_while_no_notices_are_made(self) -> None:
        for unconfirmed in (0, MOST_UNCONFIRMED):
            decision = decide([group()], [mute(cause="JobError")], NOW, None, RHYTHM, unconfirmed)
            assert decision.notices == ()
            assert decision.changed == (group(unreported=0),)

    @given(
        st.lists(st.tuples(NAMES, st.integers(1, 9), st.none() | MINUTES), unique_by=lambda each: each[0]),
        st.none() | MINUTES,
        st.lists(st.sampled_from([{"job_type": "a"}, {"cause": "Timeout"}, {"fingerprint": "E@f"}]), max_size=2),
    )
    def test_each_failure_is_reported_kept_or_muted(
        self,
        known: list[tuple[GroupName, int, int | None]],
        digest: int | None,
        muted: list[dict[str, str]],
    ) -> None:
        groups = [group(name, number, None if reported is None else at(-reported)) for name, number, reported in known]
        mutes = [mute(**about) for about in muted]
        decision = decide(groups, mutes, NOW, None if digest is None else at(-digest), RHYTHM)
        told = {each.name for notice in decision.notices for each in notice.groups}
        silent = {each.name for each in groups if any(one.covers(each.name, NOW) for one in mutes)}
        assert not told & silent
        assert {each.name for each in decision.changed} == told | silent
        assert all(each.unreported == 0 for each in decision.changed)
        assert {each.name for each in decision.changed if each.reported_at == NOW} >= told
        assert {each.name for each in groups if each.reported_at is None} - silent <= told, "new ones never wait"
        assert sum(notice.failures for notice in decision.notices) == sum(
            each.unreported for each in groups if each.name in told
        )

    @given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
    def test_however_often_it_fails_digests_are_a_period_apart(self, pauses: list[int]) -> None:
        """A group fails at each of many looks."""
        known, digest_at, now, made = {}, None, NOW, []
        total = 0
        for number, pause in enumerate(pauses):
            now += timedelta(minutes=pause)
            known |= counted(known, [FailedRun(number, 1, NAME, now)], RHYTHM)
            decision = decide(list(known.values()), [], now, digest_at, RHYTHM)
            known |= {each.name: each for each in decision.changed}
            for notice in decision.notices:
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

    def test_it_has_an_end(self) -> None:
        ended = mute(until=at(5), cause="JobError")
        assert ended.covers(NAME, at(4.9))
        assert not ended.covers(NAME, at(5))
