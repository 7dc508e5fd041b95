"""The process `spoke-jobs notify`: passes of each channel at intervals, through outages, until SIGTERM."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from spoke_jobs.errors import ConfigurationError, DatabaseError
from spoke_jobs.execution.signals import SignalEvent
from spoke_jobs.explain.words import count
from spoke_jobs.ledger.audit.process_actor import process_actor
from spoke_jobs.ledger.engine import check_schema, is_away, reason_of
from spoke_jobs.notices.notice_delivery import Channel, HttpSender, Sender
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


class NoticeHealth:
    """What `/healthz` answers. Thread-safe: each field is replaced at once.

    :param clock: the monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned_at = clock()
        self._results: Mapping[str, PassResult] = {}

    def turned(self) -> None:
        """Record that the process works."""
        self._turned_at = self._clock()

    def passed(self, results: Mapping[Channel, PassResult]) -> None:
        """Record the results of a pass of all channels."""
        self._results = {channel.value: result for channel, result in results.items()}

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the process is alive, and the state of each channel."""
        age = self._clock() - self._turned_at
        channels = {
            name: {"active": result.held, "waiting": result.waiting, "problem": result.problem}
            for name, result in self._results.items()
        }
        return age < ALIVE_SECONDS, {"secondsSinceTurn": round(age, 1), "channels": channels}


class Notify:
    """Passes of all channels."""

    def __init__(self, engine: Engine, senders: Sequence[Sender], options: NoticeOptions) -> None:
        self._engine = engine
        self._senders = senders
        self._options = options
        self._identity = Identity(uuid4(), process_actor())
        self._database = OutageLog(logger, "the database")
        self._receivers = {sender.channel: OutageLog(logger, f"the {sender.channel}") for sender in senders}
        self._held: dict[Channel, bool] = {}
        self._migrated = False
        self.health = NoticeHealth()

    def once(self, stopped: Callable[[], bool] = lambda: False) -> dict[Channel, PassResult]:
        """Make a pass of each channel, and log what has changed.

        :raises spoke_jobs.errors.DatabaseError: if the database can't be reached at first, or isn't migrated.
        :raises sqlalchemy.exc.DBAPIError: if it can't be used.
        """
        if not self._migrated:
            check_schema(self._engine)
            self._migrated = True
        results = {}
        for sender in self._senders:
            result = take_pass(self._engine, sender, self._identity, self._options, stopped)
            results[sender.channel] = result
            self._log(sender.channel, result)
        return results

    def run(self, every_seconds: float, stop: threading.Event) -> None:
        """Make passes until told to stop. An outage of the database or of a receiver ends nothing."""

        def stopped() -> bool:
            self.health.turned()
            return stop.is_set()

        while not stopped():
            try:
                self.health.passed(self.once(stopped))
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

    def close(self) -> None:
        """Give the leases back."""
        with suppress(DBAPIError):
            release(self._engine, self._senders, self._identity)

    def _log(self, channel: Channel, result: PassResult) -> None:
        if result.held is not self._held.get(channel):
            logger.info("sending to the %s" if result.held else "another process sends to the %s", channel)
            self._held[channel] = result.held
        if result.sent:
            logger.info("sent %s to the %s", count(result.sent, "notice"), channel)
            self._receivers[channel].recovered()
        if result.problem:
            self._receivers[channel].failed(result.problem)


def run(notify: Notify, every_seconds: float, health_port: int | None) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = SignalEvent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if health_port is not None:
        probe_server.serve({"/healthz": lambda: probe_server.json_answer(*notify.health.report())}, health_port, "")
    notify.run(every_seconds, stop)
    notify.close()
