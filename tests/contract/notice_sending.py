"""How `spoke-jobs notify` sends notices, the same on each database."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from tests.contract.notice_scene import TYPES, FakeSender, NoticeScene

from spoke_jobs.ledger.notices import notice_rows
from spoke_jobs.ledger.notices.notice_values import FailureGroup, GroupName
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import notice_outbox
from spoke_jobs.notices import notice_pass
from spoke_jobs.notices.notice_decisions import MOST_GROUPS, Notice, NoticeKind
from spoke_jobs.notices.notice_delivery import Channel
from spoke_jobs.notices.notice_document import NoticeDocument
from spoke_jobs.notices.notice_pass import Identity, PassResult, release


class NoticeSendingContract(NoticeScene):
    """One process sends, and a notice that fails is sent again."""

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
