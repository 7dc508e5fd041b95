"""Passes of `spoke-jobs notify` on a ledger: the stage of all contracts about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from tests.conftest import open_ledger
from tests.contract.ledger import LEASE, claim_one, new_job

from spoke_jobs.ledger.notices import mute_rows
from spoke_jobs.ledger.notices.notice_values import NewMute
from spoke_jobs.ledger.reading.queries import Queries
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request, notice_channel, notice_group, notice_outbox, notice_seen
from spoke_jobs.model import Failure
from spoke_jobs.notices.notice_decisions import Rhythm
from spoke_jobs.notices.notice_delivery import Channel, Delivery
from spoke_jobs.notices.notice_pass import Identity, NoticeOptions, PassResult, take_pass

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


class NoticeScene:
    """A ledger, a receiver, and passes of one process. Subclass it with a fixture ``ledger_url``."""

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
