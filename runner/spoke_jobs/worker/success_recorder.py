"""Record successes in batches: attempts that end during one transaction share the next one."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import AttemptUsage, Progress
from spoke_jobs.shared.outage_log import OutageLog

logger = logging.getLogger(__name__)

_BATCH = 100
Deliver = Callable[[Callable[[], None]], object]
"""Calls a function in the thread of those who wait for the answers."""


@dataclass(frozen=True, slots=True)
class _Success:
    token: UUID
    result: Any
    progress: Progress | None
    usage: AttemptUsage
    give_up_at: float
    done: Callable[[bool | Exception], None]


class Recorder:
    """A thread that records successes.

    It calls ``done`` with True, with False if the attempt was superseded, or with the error that prevented recording.

    :param deliver: called once for a whole batch, because it takes a system call to wake another thread's event loop.
    """

    def __init__(self, ledger: SqlLedger, deliver: Deliver) -> None:
        self._ledger = ledger
        self._deliver = deliver
        self._outage = OutageLog(logger, "the database", began="could not record successes")
        self._waiting: queue.SimpleQueue[_Success] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="spoke-recorder", daemon=True).start()

    def record(
        self,
        token: UUID,
        result: Any,
        progress: Progress | None,
        usage: AttemptUsage,
        patience: float,
        done: Callable[[bool | Exception], None],
    ) -> None:
        """Record a success; retry for ``patience`` seconds while the database is unreachable.

        :param progress: the last progress, unless it is already recorded.
        :param usage: what the attempt used.
        """
        self._waiting.put(_Success(token, result, progress, usage, time.monotonic() + patience, done))

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < _BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            try:
                recorded = self._ledger.succeed_many(
                    {item.token: item.result for item in batch},
                    {item.token: item.progress for item in batch if item.progress is not None},
                    {item.token: item.usage for item in batch},
                )
            except Exception as error:
                self._retry_later(batch, error)
                continue
            self._outage.recovered()
            self._tell([(item, item.token in recorded) for item in batch])

    def _retry_later(self, batch: list[_Success], error: Exception) -> None:
        self._outage.failed(type(error).__name__)
        now, given_up = time.monotonic(), list[tuple[_Success, bool | Exception]]()
        for item in batch:
            if isinstance(error, DBAPIError) and now < item.give_up_at:
                self._waiting.put(item)
            else:
                given_up.append((item, error))
        if given_up:
            self._tell(given_up)
        time.sleep(0.2)

    def _tell(self, answers: list[tuple[_Success, bool | Exception]]) -> None:
        def tell() -> None:
            for item, answer in answers:
                item.done(answer)

        self._deliver(tell)
