"""The process `spoke-jobs notify`: passes of each channel at intervals, through outages, until SIGTERM."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from spoke_jobs.errors import ConfigurationError, DatabaseError
from spoke_jobs.execution.signals import SignalEvent
from spoke_jobs.explain.words import count
from spoke_jobs.ledger.audit.process_actor import process_actor
from spoke_jobs.ledger.engine import check_schema, is_away, reason_of
from spoke_jobs.notices.notice_decisions import Notice, NoticeKind
from spoke_jobs.notices.notice_delivery import Channel, Delivery, HttpSender, Sender
from spoke_jobs.notices.notice_document import NoticeDocument
from spoke_jobs.notices.notice_pass import Identity, NoticeOptions, PassResult, release, take_pass
from spoke_jobs.settings import Settings
from spoke_jobs.shared import probe_server
from spoke_jobs.shared.outage_log import OutageLog

logger = logging.getLogger(__name__)

ALIVE_SECONDS = 120.0
"""A process that has not turned for longer hangs. A turn takes at most a statement's timeout or an answer's."""
_NOTHING = (
    "there is nobody to notify: set SPOKE_NOTIFY_SLACK_URL, or SPOKE_NOTIFY_WEBHOOK_URL and SPOKE_NOTIFY_WEBHOOK_KEY "
    "(docs/how-to/notify.md)"
)


def senders_of(settings: Settings) -> list[Sender]:
    """Make a sender for each receiver that the settings name.

    :raises ConfigurationError: if there is none, or a setting cannot be used.
    """
    senders: list[Sender] = []
    if settings.notify_webhook_url.get_secret_value():
        if not settings.notify_webhook_key.get_secret_value():
            raise ConfigurationError(
                "SPOKE_NOTIFY_WEBHOOK_KEY is not set: it signs what is sent to the webhook. "
                "`openssl rand -base64 32` makes one"
            )
        senders.append(HttpSender(Channel.WEBHOOK, settings.webhook, settings.webhook_key, settings.notify_ca_file))
    if settings.notify_slack_url.get_secret_value():
        senders.append(HttpSender(Channel.SLACK, settings.slack, ca_file=settings.notify_ca_file))
    if not senders:
        raise ConfigurationError(_NOTHING)
    return senders


def send_tests(senders: Sequence[Sender], source: str) -> dict[Channel, Delivery]:
    """Send a notice about no job to each receiver. Nothing is stored, and nothing is sent again."""
    sent = {}
    for sender in senders:
        notice_id = uuid4()
        document = NoticeDocument.of(Notice(NoticeKind.TEST, (), 0, 0), notice_id, datetime.now(UTC), source=source)
        sent[sender.channel] = sender.send(notice_id, document.model_dump(mode="json"))
    return sent


class NoticeHealth:
    """What `/healthz` answers. Thread-safe: each value is replaced at once.

    :param clock: the monotonic clock, in seconds.
    """

    def __init__(self, channels: Iterable[Channel], clock: Callable[[], float] = time.monotonic) -> None:
        self.rest_seconds = 0.0
        """How long the process waits between two passes."""
        self._clock = clock
        self._turned_at = {channel: clock() for channel in channels}
        self._results: dict[Channel, PassResult] = {}

    def turned(self, channel: Channel) -> None:
        """Record that a channel's loop works."""
        self._turned_at[channel] = self._clock()

    def passed(self, channel: Channel, result: PassResult) -> None:
        """Record the result of a pass."""
        self._results[channel] = result

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the process is alive, and the state of each channel."""
        age = self._clock() - min(self._turned_at.values())
        channels = {
            channel.value: {"active": result.held, "waiting": result.waiting, "problem": result.problem}
            for channel, result in list(self._results.items())
        }
        alive = age < ALIVE_SECONDS + self.rest_seconds
        return alive, {"secondsSinceTurn": round(age, 1), "channels": channels}


class Notify:
    """Passes of all channels. Each has a thread of its own, so that no receiver waits for another one."""

    def __init__(self, engine: Engine, senders: Sequence[Sender], options: NoticeOptions) -> None:
        self._engine = engine
        self._senders = senders
        self._options = options
        self._identity = Identity(uuid4(), process_actor())
        self._database = OutageLog(logger, "the database")
        self._receivers = {sender.channel: OutageLog(logger, f"the {sender.channel}") for sender in senders}
        self._held: dict[Channel, bool] = {}
        self.health = NoticeHealth(self._receivers)

    def once(self) -> dict[Channel, PassResult]:
        """Make a pass of each channel, and log what has changed.

        :raises spoke_jobs.errors.DatabaseError: if the database can't be reached at first, or isn't migrated.
        :raises sqlalchemy.exc.DBAPIError: if it can't be used.
        """
        check_schema(self._engine)
        return {sender.channel: self._pass(sender) for sender in self._senders}

    def run(self, every_seconds: float, stop: threading.Event) -> None:
        """Make passes until told to stop. An outage of the database or of a receiver ends nothing."""
        self.health.rest_seconds = every_seconds
        threads = [
            threading.Thread(
                target=self._run, args=(sender, every_seconds, stop), name=f"spoke-notify-{sender.channel}", daemon=True
            )
            for sender in self._senders
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)  # signals are handled in between

    def close(self) -> None:
        """Give the leases back."""
        with suppress(DBAPIError):
            release(self._engine, self._senders, self._identity)

    def _run(self, sender: Sender, every_seconds: float, stop: threading.Event) -> None:
        def stopped() -> bool:
            self.health.turned(sender.channel)
            return stop.is_set()

        migrated = False
        while not stopped():
            try:
                if not migrated:
                    check_schema(self._engine)
                    migrated = True
                self._pass(sender, stopped)
                self._database.recovered()
            except DatabaseError as error:
                self._database.failed(str(error))
            except DBAPIError as error:
                if is_away(error):
                    self._database.failed(reason_of(error))
                else:
                    logger.exception("the database refuses a statement; retrying")
            except Exception:
                logger.exception("unexpected error; retrying")
            stop.wait(every_seconds)

    def _pass(self, sender: Sender, stopped: Callable[[], bool] = lambda: False) -> PassResult:
        channel = sender.channel
        result = take_pass(self._engine, sender, self._identity, self._options, stopped)
        self.health.passed(channel, result)
        if result.held is not self._held.get(channel):
            logger.info("sending to the %s" if result.held else "another process sends to the %s", channel)
            self._held[channel] = result.held
        if result.sent:
            logger.info("sent %s to the %s", count(result.sent, "notice"), channel)
            self._receivers[channel].recovered()
        if result.problem:
            self._receivers[channel].failed(result.problem)
        return result


def run(notify: Notify, every_seconds: float, health_port: int | None) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = SignalEvent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if health_port is not None:
        probe_server.serve({"/healthz": lambda: probe_server.json_answer(*notify.health.report())}, health_port, "")
    notify.run(every_seconds, stop)
    notify.close()
