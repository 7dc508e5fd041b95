"""Which failures `spoke-jobs notify` counts and reports, the same on each database."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update
from tests.contract.ledger import LEASE, claim_one
from tests.contract.notice_scene import PERIOD, QUIET, TYPES, FakeSender, NoticeScene

from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.notices import mute_rows, notice_rows
from spoke_jobs.ledger.notices.notice_values import FailedRun, FailureGroup, GroupName, Place
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request, notice_channel, notice_group, notice_mute, notice_outbox, notice_seen
from spoke_jobs.model import Failure
from spoke_jobs.notices import notice_pass
from spoke_jobs.notices.notice_decisions import MOST_GROUPS
from spoke_jobs.notices.notice_pass import Identity, PassResult, take_pass


class NoticeCountContract(NoticeScene):
    """Each failure is reported once, in groups, unless a mute covers it."""

    def test_what_failed_before_the_first_look_is_not_reported(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        self.fail(ledger)
        self.pass_time(ledger, timedelta(seconds=1))
        assert self.take(ledger, sender, me) == PassResult(held=True)
        assert self.take(ledger, sender, me) == PassResult(held=True)
        assert sender.sent == []

    def test_each_new_group_is_reported_once_and_without_values(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        self.take(ledger, sender, me)
        ids = [self.fail(ledger), self.fail(ledger), self.fail(ledger, "export")]
        self.fail(ledger, "mail", "Cancelled", "")
        assert self.take(ledger, sender, me, source="shop") == PassResult(held=True, sent=1)
        assert sender.groups() == [[("new", "report", 2), ("new", "export", 1)]]
        (document,) = sender.sent
        assert UUID(document["id"]) == sender.ids[0]
        assert (document["source"], document["failures"], document["groups_left_out"]) == ("shop", 3, 0)
        first = document["groups"][0]
        assert (first["cause"], first["fingerprint"], first["job_id"]) == ("JobError", "E@app.f", ids[1])
        assert first["known_since"] == first["oldest_at"] <= first["newest_at"]
        assert first["message"] is None
        assert "secret" not in str(document), "the texts of jobs stay in the ledger"
        assert self.take(ledger, sender, me) == PassResult(held=True)
        assert self.number(ledger, notice_outbox) == 0

    def test_messages_are_sent_if_that_is_asked_for(self, ledger: SqlLedger, sender: FakeSender, me: Identity) -> None:
        self.take(ledger, sender, me)
        self.fail(ledger)
        self.take(ledger, sender, me, with_messages=True)
        assert sender.sent[0]["groups"][0]["message"] == "secret text"
        assert "secret line" not in str(sender.sent)

    def test_further_failures_are_in_a_digest_once_a_period(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        self.take(ledger, sender, me)
        self.fail(ledger)
        self.take(ledger, sender, me)
        for _ in range(2):
            self.fail(ledger)
            assert self.take(ledger, sender, me).sent == 0, "not before the period is over"
        self.pass_time(ledger, PERIOD)
        last = self.fail(ledger)
        assert self.take(ledger, sender, me).sent == 1
        assert sender.groups()[1:] == [[("digest", "report", 3)]]
        assert sender.sent[1]["groups"][0]["job_id"] == last
        self.fail(ledger)
        assert self.take(ledger, sender, me).sent == 0
        self.pass_time(ledger, PERIOD)
        assert self.take(ledger, sender, me).sent == 1
        assert sender.groups()[2:] == [[("digest", "report", 1)]]
        self.pass_time(ledger, PERIOD)
        assert self.take(ledger, sender, me).sent == 0, "nothing has failed"

    def test_a_group_that_was_quiet_is_new_again(self, ledger: SqlLedger, sender: FakeSender, me: Identity) -> None:
        self.take(ledger, sender, me)
        self.fail(ledger)
        self.take(ledger, sender, me)
        self.pass_time(ledger, QUIET + timedelta(minutes=1))
        self.take(ledger, sender, me)
        assert self.number(ledger, notice_group) == 0
        self.fail(ledger)
        self.take(ledger, sender, me)
        assert sender.groups() == [[("new", "report", 1)]] * 2

    def test_a_job_that_is_retried_and_fails_again_counts_again(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        self.take(ledger, sender, me)
        job_id = self.fail(ledger)
        self.take(ledger, sender, me)
        ledger.retry(job_id, "ada")
        claim = claim_one(ledger, "legacy", TYPES, "w", LEASE)
        assert claim is not None
        ledger.fail(claim.token, Failure("JobError", "", for_good=True, fingerprint="E@app.f"), decide=True)
        self.pass_time(ledger, PERIOD)
        self.take(ledger, sender, me)
        assert sender.groups() == [[("new", "report", 1)], [("digest", "report", 1)]]

    def test_a_failure_that_is_committed_late_is_reported(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        """Its transaction began before a look, and was committed after it."""
        self.take(ledger, sender, me)
        self.pass_time(ledger, timedelta(hours=2))
        self.take(ledger, sender, me)
        job_id = self.fail(ledger)
        just_in_time = self.now(ledger) - timedelta(seconds=notice_rows.LATE_SECONDS - 60)
        with ledger.engine.begin() as connection:
            connection.execute(update(job_request).where(job_request.c.id == job_id).values(finished_at=just_in_time))
        assert self.take(ledger, sender, me).sent == 1
        for _ in range(2):
            assert self.take(ledger, sender, me).sent == 0

    def test_what_is_counted_is_forgotten_when_no_look_reaches_back(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        self.take(ledger, sender, me)
        self.fail(ledger)
        self.take(ledger, sender, me)
        assert self.number(ledger, notice_seen) == 1
        self.pass_time(ledger, timedelta(seconds=notice_rows.LATE_SECONDS + 1))
        self.take(ledger, sender, me)
        assert self.number(ledger, notice_seen) == 0
        for _ in range(2):
            self.pass_time(ledger, PERIOD)
            assert self.take(ledger, sender, me).sent == 0

    def test_a_process_that_was_away_reports_what_failed_meanwhile(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        self.take(ledger, sender, me)
        self.fail(ledger)
        self.fail(ledger, "export")
        self.pass_time(ledger, timedelta(days=3))
        other = Identity(uuid4(), "two")
        self.take(ledger, sender, other)
        assert sender.groups() == [[("new", "export", 1), ("new", "report", 1)]]

    def test_after_an_outage_no_part_of_a_look_reads_what_earlier_ones_have_counted(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A million failures would be read hundreds of times."""
        monkeypatch.setattr(notice_pass, "BATCH", 2)
        self.take(ledger, sender, me)
        jobs = [self.fail(ledger) for _ in range(7)]
        begin = self.now(ledger)
        times = [begin + timedelta(seconds=10 * number) for number in (1, 2, 3, 3, 3, 4, 5)]
        with ledger.engine.begin() as connection:
            for job_id, time in zip(jobs, times, strict=True):
                connection.execute(update(job_request).where(job_request.c.id == job_id).values(finished_at=time))
        places, reached = list[Place](), list[datetime | None]()
        read = notice_rows.unseen

        def unseen(*given: Any) -> list[FailedRun]:
            places.append(given[2])
            reached.append(given[4])
            again = read(given[0], "another channel", *given[2:])  # which has counted nothing
            assert [each.finished_at for each in again] == [
                time for time in times if given[4] is None or time >= given[4]
            ][:2]
            return read(*given)

        monkeypatch.setattr(notice_rows, "unseen", unseen)
        self.take(ledger, sender, me)
        assert sender.groups() == [[("new", "report", 7)]]
        assert reached == [None, times[1], times[3], times[5]]
        with ledger.engine.connect() as connection:
            looked_at = connection.scalar(select(notice_channel.c.looked_at))
        assert looked_at == places[0].now, "what is committed late during the look is found by the next one"

    def test_a_process_that_ends_while_it_counts_loses_nothing(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(notice_pass, "BATCH", 2)
        self.take(ledger, sender, me)
        for _ in range(5):
            self.fail(ledger)
        turns = iter([False, True])  # one batch is counted
        assert take_pass(ledger.engine, sender, me, self.options(), lambda: next(turns)) == PassResult(held=True)
        assert self.number(ledger, notice_seen) == 2
        self.take(ledger, sender, me)
        assert sender.groups() == [[("new", "report", 5)]]

    def test_names_that_other_code_wrote_do_no_harm(self, ledger: SqlLedger, sender: FakeSender, me: Identity) -> None:
        self.take(ledger, sender, me)
        job_id = self.fail(ledger)
        hostile = {"job_type": "x" * 100_000, "cause": "\x1b[31m" * 1000, "fingerprint": "`$(rm)`'\u202e" * 1000}
        with ledger.engine.begin() as connection:
            connection.execute(update(job_request).where(job_request.c.id == job_id).values(hostile))
        self.take(ledger, sender, me)
        (document,) = sender.sent
        assert len(str(document)) < 5_000
        assert "\x1b" not in str(document)
        assert self.take(ledger, sender, me).sent == 0

    def test_any_number_of_groups_is_counted_and_few_are_read(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A job's role can write failed jobs of any number of groups, with long names, in one statement."""
        most, read, groups_of_rows = MOST_GROUPS + 5, list[int](), notice_rows._groups

        def groups(*given: Any) -> list[FailureGroup]:
            found = groups_of_rows(*given)
            read.append(len(found))
            return found

        self.take(ledger, sender, me)
        now = self.now(ledger)
        several = [FailureGroup(GroupName(f"t{number}", "JobError", ""), now, now, number, 1 + number, now)
                   for number in range(most)]  # fmt: skip
        with ledger.engine.begin() as connection:
            notice_rows.write_groups(connection, sender.channel.value, several)
        monkeypatch.setattr(notice_rows, "_groups", groups)
        self.take(ledger, sender, me)
        (document,) = sender.sent
        assert max(read) == MOST_GROUPS
        assert [group["count"] for group in document["groups"]] == list(range(most, 5, -1)), "the largest first"
        assert (document["groups_left_out"], document["failures"]) == (5, sum(range(1, most + 1)))
        self.take(ledger, sender, me)
        assert len(sender.sent) == 1, "those that are counted only are not reported again"
        self.pass_time(ledger, PERIOD)
        with ledger.engine.begin() as connection:
            again = [replace(group, unreported=1, reported_at=now - PERIOD) for group in several]
            notice_rows.write_groups(connection, sender.channel.value, again)
        self.take(ledger, sender, me)
        assert (sender.sent[1]["kind"], sender.sent[1]["groups_left_out"]) == ("digest", 5)
        assert max(read) == MOST_GROUPS
        self.pass_time(ledger, PERIOD)
        assert self.take(ledger, sender, me).sent == 0

    # Mutes

    def test_muted_groups_are_found_in_parts(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Their names need not fit into memory together."""
        monkeypatch.setattr(notice_pass, "PART", 2)
        self.take(ledger, sender, me)
        now = self.now(ledger)
        several = [FailureGroup(GroupName(f"{name}{number}", "JobError", ""), now, now, number, 1, now)
                   for name in ("quiet", "loud") for number in range(4)]  # fmt: skip
        with ledger.engine.begin() as connection:
            notice_rows.write_groups(connection, sender.channel.value, several)
        self.mute(ledger, job_type="quiet*")
        self.take(ledger, sender, me)
        assert sender.groups() == [[("new", f"loud{number}", 1) for number in range(4)]]
        self.pass_time(ledger, PERIOD)
        assert self.take(ledger, sender, me).sent == 0

    def test_what_is_muted_is_not_reported_until_the_mute_ends(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        self.take(ledger, sender, me)
        self.fail(ledger)
        mute_id = self.mute(ledger, job_type="r*", fingerprint="E@app.f")
        self.mute(ledger, job_type="report", cause="Timeout")
        self.fail(ledger)
        assert self.take(ledger, sender, me).sent == 0
        with ledger.engine.begin() as connection:
            ended = mute_rows.end_mute(connection, mute_id, "eve")
        assert ended is not None
        assert self.take(ledger, sender, me).sent == 0, "what failed meanwhile is not reported later"
        self.fail(ledger)
        assert self.take(ledger, sender, me).sent == 1
        assert sender.groups() == [[("new", "report", 1)]]

    def test_a_mute_ends_by_itself(self, ledger: SqlLedger, sender: FakeSender, me: Identity) -> None:
        self.take(ledger, sender, me)
        self.mute(ledger, cause="JobError")
        ended = self.now(ledger) - timedelta(seconds=1)
        with ledger.engine.begin() as connection:
            connection.execute(update(notice_mute).values(until=ended))
        self.fail(ledger)
        assert self.take(ledger, sender, me).sent == 1

    def test_who_muted_what_is_recorded(self, ledger: SqlLedger) -> None:
        mute_id = self.mute(ledger, job_type="report", cause="Timeout")
        with ledger.engine.begin() as connection:
            assert mute_rows.end_mute(connection, mute_id, "eve") is not None
            assert mute_rows.end_mute(connection, mute_id, "eve") is None
        unmuted, muted = Queries(ledger.engine).events(which=EventFilter(job_type="report"))
        assert (muted.action, muted.actor, unmuted.action, unmuted.actor) == ("mute", "ada", "unmute", "eve")
        assert muted.detail.startswith("type report, cause Timeout until ")
        assert muted.detail.endswith(": known")
