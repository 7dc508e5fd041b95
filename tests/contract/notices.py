"""Passes of `spoke-jobs notify` on a ledger, the same on each database. Subclass it with a fixture ``ledger_url``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, claim_one, new_job

from spoke_jobs.ledger.audit.audit_events import EventFilter
from spoke_jobs.ledger.notices import mute_rows, notice_rows
from spoke_jobs.ledger.notices.notice_values import FailedRun, FailureGroup, GroupName, NewMute, Place
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request, notice_channel, notice_group, notice_mute, notice_outbox, notice_seen
from spoke_jobs.model import Failure
from spoke_jobs.notices import notice_pass
from spoke_jobs.notices.notice_decisions import MOST_GROUPS, Notice, NoticeKind, Rhythm
from spoke_jobs.notices.notice_delivery import Channel, Delivery
from spoke_jobs.notices.notice_document import NoticeDocument
from spoke_jobs.notices.notice_pass import Identity, NoticeOptions, PassResult, release, take_pass

PERIOD, QUIET = timedelta(hours=1), timedelta(days=1)
TYPES = ("report", "export", "mail")


class FakeSender:
    """Records notices, and answers as it is told to."""

    def __init__(self, channel: Channel = Channel.WEBHOOK) -> None:
        self.channel = channel
        self.sent: list[Mapping[str, Any]] = []
        self.ids: list[UUID] = []
        self.problem = ""
        self.meanwhile: Callable[[], None] = lambda: None
        """Called while a notice is sent."""

    def send(self, notice_id: UUID, document: Mapping[str, Any]) -> Delivery:
        self.meanwhile()
        self.sent.append(document)
        self.ids.append(notice_id)
        return Delivery(delivered=not self.problem, problem=self.problem)

    def groups(self) -> list[list[tuple[str, str, int]]]:
        """Of each notice, its kind and its groups: type and count."""
        return [[(sent["kind"], group["job_type"], group["count"]) for group in sent["groups"]] for sent in self.sent]


class NoticeContract:
    """What is sent, and how often."""

    @pytest.fixture
    def ledger(self, ledger_url: str) -> Iterator[SqlLedger]:
        yield from open_ledger(ledger_url)

    @pytest.fixture
    def sender(self) -> FakeSender:
        return FakeSender()

    @pytest.fixture
    def me(self) -> Identity:
        return Identity(uuid4(), "one")

    def options(self, **changes: Any) -> NoticeOptions:
        return NoticeOptions(Rhythm(PERIOD, QUIET), **changes)

    def take(self, ledger: SqlLedger, sender: FakeSender, me: Identity, **changes: Any) -> PassResult:
        return take_pass(ledger.engine, sender, me, self.options(**changes))

    def fail(
        self, ledger: SqlLedger, job_type: str = "report", cause: str = "JobError", fingerprint: str = "E@app.f"
    ) -> int:
        job = ledger.insert(new_job(job_type=job_type))
        claim = claim_one(ledger, "legacy", TYPES, "w", LEASE)
        assert claim is not None
        assert claim.job.id == job.id
        failure = Failure(cause, "secret text", "E", "secret line", for_good=True, fingerprint=fingerprint)
        ledger.fail(claim.token, failure, decide=True)
        return job.id

    def pass_time(self, ledger: SqlLedger, by: timedelta) -> None:
        """Make all that channels know so much older, as if time had passed."""
        with ledger.engine.begin() as connection:
            for table, names in (
                (notice_channel, ("started_at", "looked_at", "digest_at", "lease_until")),
                (notice_group, ("known_since", "newest_at", "oldest_at", "reported_at")),
                (notice_outbox, ("created_at", "next_try_at")),
                (notice_seen, ("finished_at",)),
                (job_request, ("finished_at",)),
            ):
                for row in connection.execute(select(*table.primary_key, *(table.c[name] for name in names))).all():
                    where = [column == row[index] for index, column in enumerate(table.primary_key)]
                    times = dict(zip(names, row[len(where) :], strict=True))
                    if older := {name: time - by for name, time in times.items() if time is not None}:
                        connection.execute(update(table).where(*where).values(older))

    def number(self, ledger: SqlLedger, table: Any) -> int:
        with ledger.engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(table)) or 0

    def now(self, ledger: SqlLedger) -> datetime:
        return Queries(ledger.engine).now()

    def mute(self, ledger: SqlLedger, **about: Any) -> int:
        new = NewMute(until=self.now(ledger) + timedelta(hours=1), reason="known", **about)
        with ledger.engine.begin() as connection:
            return mute_rows.add_mute(connection, new, "ada").id

    # What is reported

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

    def test_many_failures_are_counted_in_several_transactions(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(notice_pass, "BATCH", 2)
        self.take(ledger, sender, me)
        for _ in range(5):
            self.fail(ledger)
        self.take(ledger, sender, me)
        assert sender.groups() == [[("new", "report", 5)]]

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

    def test_the_largest_notice_is_sent_whole(self, ledger: SqlLedger, sender: FakeSender, me: Identity) -> None:
        """Its characters take the most bytes of JSON."""
        self.take(ledger, sender, me)
        now, most = self.now(ledger), "\U0001f600" * 1_000
        names = [GroupName(most[:200], most[:100], f"{number:02}{most[:248]}") for number in range(MOST_GROUPS)]
        groups = tuple(FailureGroup(name, now, now, 2**62 + number, 2**31) for number, name in enumerate(names))
        document = NoticeDocument.of(
            Notice(NoticeKind.NEW, groups, 0, 2**31),
            uuid4(),
            now,
            source=most,
            dashboard="https://" + "x" * 500,
            messages=dict.fromkeys((group.job_id for group in groups), most),
        ).model_dump(mode="json")
        with ledger.engine.begin() as connection:
            notice_rows.add(connection, sender.channel.value, {uuid4(): document}, digest_at=None)
        assert self.take(ledger, sender, me).sent == 1
        assert sender.sent == [document]

    # Who sends, and how often

    def test_one_process_at_a_time(self, ledger: SqlLedger, sender: FakeSender, me: Identity) -> None:
        other = Identity(uuid4(), "two")
        assert self.take(ledger, sender, me).held
        self.fail(ledger)
        assert self.take(ledger, sender, other) == PassResult(held=False)
        assert sender.sent == []
        with ledger.engine.connect() as connection:
            assert notice_rows.holder_of(connection, "webhook") == "one"
        release(ledger.engine, [sender], other)
        assert self.take(ledger, sender, other) == PassResult(held=False), "only the holder gives a lease back"
        release(ledger.engine, [sender], me)
        assert self.take(ledger, sender, other) == PassResult(held=True, sent=1)
        assert self.take(ledger, sender, me) == PassResult(held=False)

    def test_a_lease_that_nobody_renews_lapses(self, ledger: SqlLedger, sender: FakeSender, me: Identity) -> None:
        self.take(ledger, sender, me)
        self.pass_time(ledger, timedelta(seconds=notice_rows.LEASE_SECONDS + 1))
        assert self.take(ledger, sender, Identity(uuid4(), "two")).held

    def test_another_process_does_not_send_what_is_being_sent(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        self.take(ledger, sender, me)
        self.fail(ledger)
        other, idle, results = Identity(uuid4(), "two"), FakeSender(), []
        sender.meanwhile = lambda: results.append(self.take(ledger, idle, other))
        self.take(ledger, sender, me)
        assert results == [PassResult(held=False)]
        assert len(sender.sent) == 1
        assert idle.sent == []

    def test_a_process_that_dies_before_it_knows_the_answer_sends_the_same_again(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        self.take(ledger, sender, me)
        self.fail(ledger)

        def die() -> None:
            raise KeyboardInterrupt

        sender.meanwhile = die
        with pytest.raises(KeyboardInterrupt):
            self.take(ledger, sender, me)
        self.fail(ledger)
        sender.meanwhile = lambda: None
        self.pass_time(ledger, timedelta(seconds=notice_rows.LEASE_SECONDS + 1))
        self.take(ledger, sender, Identity(uuid4(), "two"))
        assert sender.groups() == [[("new", "report", 1)]], "the notice is as it was stored"

    def test_a_process_that_lost_its_lease_stops_sending(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        self.take(ledger, sender, me)
        self.fail(ledger)
        sender.problem = "it answers 500"
        self.take(ledger, sender, me)
        self.fail(ledger, "export")
        self.pass_time(ledger, timedelta(minutes=1))
        sender.problem, sender.sent = "", []

        def lose() -> None:
            self.pass_time(ledger, timedelta(seconds=notice_rows.LEASE_SECONDS + 1))
            with ledger.engine.begin() as connection:
                assert notice_rows.hold(connection, "webhook", uuid4(), "two") is not None

        sender.meanwhile = lose
        assert self.take(ledger, sender, me) == PassResult(held=False, sent=1)
        assert len(sender.sent) == 1, "the other notice is left to the new holder"

    def test_a_notice_that_could_not_be_sent_is_sent_again_later_with_its_id(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity
    ) -> None:
        self.take(ledger, sender, me)
        self.fail(ledger)
        sender.problem = "it answers 500"
        assert self.take(ledger, sender, me) == PassResult(True, 0, 1, "it answers 500")
        assert self.take(ledger, sender, me) == PassResult(True, 0, 1), "not at once"
        sender.problem = ""
        self.pass_time(ledger, timedelta(seconds=notice_pass.BACKOFF.maximum))
        assert self.take(ledger, sender, me) == PassResult(held=True, sent=1)
        assert sender.ids[0] == sender.ids[1]
        assert sender.sent[0] == sender.sent[1]

    def test_a_receiver_that_is_down_gets_no_endless_heap(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("spoke_jobs.notices.notice_decisions.MOST_UNCONFIRMED", 2)
        self.take(ledger, sender, me)
        sender.problem = "it answers 500"
        for job_type in TYPES:
            self.fail(ledger, job_type)
            self.take(ledger, sender, me)
        assert self.number(ledger, notice_outbox) == 2
        sender.problem, sender.sent = "", []
        for _ in range(3):
            self.pass_time(ledger, timedelta(seconds=notice_pass.BACKOFF.maximum))
            self.take(ledger, sender, me)
        assert sorted(sender.groups()) == [[("new", job_type, 1)] for job_type in sorted(TYPES)], "nothing is lost"

    def test_a_notice_that_nobody_takes_is_dropped_in_the_end(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.take(ledger, sender, me)
        self.fail(ledger)
        sender.problem = "it answers 500"
        self.take(ledger, sender, me)
        self.pass_time(ledger, timedelta(seconds=notice_rows.DROP_SECONDS + 1))
        assert self.take(ledger, sender, me) == PassResult(held=True)
        assert f"dropped the notice {sender.ids[0]} for the webhook" in caplog.text

    def test_channels_are_independent(self, ledger: SqlLedger, sender: FakeSender, me: Identity) -> None:
        slack = FakeSender(Channel.SLACK)
        self.take(ledger, sender, me)
        self.fail(ledger)
        self.pass_time(ledger, timedelta(seconds=1))
        self.take(ledger, slack, me)
        self.fail(ledger)
        sender.problem = "it answers 500"
        self.take(ledger, sender, me)
        self.take(ledger, slack, me)
        assert sender.groups() == [[("new", "report", 2)]]
        assert slack.groups() == [[("new", "report", 1)]], "it began later"

    # Mutes

    @pytest.mark.parametrize(
        "about",
        [
            {"job_type": "report"},
            {"job_type": "rep*"},
            {"cause": "JobError"},
            {"fingerprint": "E@app.f"},
            {"job_type": "r*", "fingerprint": "E@app.f"},
        ],
    )
    def test_what_is_muted_is_not_reported_until_the_mute_ends(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity, about: dict[str, str]
    ) -> None:
        self.take(ledger, sender, me)
        self.fail(ledger)
        mute_id = self.mute(ledger, **about)
        self.fail(ledger)
        assert self.take(ledger, sender, me).sent == 0
        with ledger.engine.begin() as connection:
            ended = mute_rows.end_mute(connection, mute_id, "eve")
        assert ended is not None
        assert self.take(ledger, sender, me).sent == 0, "what failed meanwhile is not reported later"
        self.fail(ledger)
        assert self.take(ledger, sender, me).sent == 1
        assert sender.groups() == [[("new", "report", 1)]]

    @pytest.mark.parametrize(
        "about", [{"job_type": "export"}, {"cause": "Timeout"}, {"job_type": "report", "cause": "Timeout"}]
    )
    def test_other_failures_are_reported_nevertheless(
        self, ledger: SqlLedger, sender: FakeSender, me: Identity, about: dict[str, str]
    ) -> None:
        self.take(ledger, sender, me)
        self.mute(ledger, **about)
        self.fail(ledger)
        assert self.take(ledger, sender, me).sent == 1

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
