"""Write the status of SpokeLimits when it changes. If only counts change, an object is written every few seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from spoke_jobs.contract.custom_resources.spokelimit import SpokeLimitStatus
from spoke_jobs.shared.api_errors import ApiError, Conflict, NotFound
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.objects.limit_objects import SpokeLimitView
from spoke_jobs_operator.core.reporting.limit_status import count_waiting, is_urgent, status_of
from spoke_jobs_operator.shell.admission.pacing import Pacer
from spoke_jobs_operator.shell.api.operator_client import Client, NotLeading
from spoke_jobs_operator.shell.store.store import Store

LOOK_SECONDS = 1.0
SHARE_OF_LOOKING = 0.1
"""The most of the time that looking takes: one namespace may have thousands of SpokeLimits."""
AT_A_TIME = 200
"""How many SpokeLimits are looked at before other work goes on."""
COUNTS_SECONDS = 5.0
"""The shortest interval between two writes of one object that change only its counts."""
MOST_AT_ONCE = 20
"""The most statuses that one round writes."""
logger = logging.getLogger(__name__)


class LimitReporter:
    """Keep the status of each SpokeLimit up to date.

    :param clock: returns the current time.
    """

    def __init__(self, client: Client, store: Store, pacer: Pacer, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._store = store
        self._pacer = pacer
        self._clock = clock
        self._written: dict[Key, datetime] = {}
        self._failing: set[Key] = set()
        self.on_error: Callable[[Exception], None] = lambda _error: None
        """Called when an unexpected error was raised. It is tried again."""

    async def run(self) -> None:
        """Report until cancelled."""
        took = 0.0
        while True:
            await asyncio.sleep(max(LOOK_SECONDS, took / SHARE_OF_LOOKING))
            began = time.monotonic()
            try:
                await self.report()
            except Exception as error:
                self.on_error(error)
            took = time.monotonic() - began

    async def report(self) -> None:
        """Write each status that has changed."""
        items = list(self._store.spokelimits)
        known = {item.key for item in items}
        self._written = {key: at for key, at in self._written.items() if key in known}
        if not items:
            return
        now = self._clock()
        running, waiting = self._pacer.usage.in_scope, count_waiting(self._pacer.waiting(), items)
        left = MOST_AT_ONCE
        never = now - timedelta(days=1)
        for number, item in enumerate(sorted(items, key=lambda item: self._written.get(item.key, never)), 1):
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)
            try:
                new = status_of(item, running, waiting, now, self._pacer.usage.rates.full_at(item))
            except Exception as error:
                self.on_error(error)
                continue
            if new == item.status or left == 0:
                continue
            recent = now - self._written.get(item.key, never) < timedelta(seconds=COUNTS_SECONDS)
            if recent and (item.key in self._failing or not is_urgent(item.status, new)):
                continue
            left -= 1
            self._written[item.key] = now
            await self._write(item, new)

    async def _write(self, item: SpokeLimitView, status: SpokeLimitStatus) -> None:
        try:
            body = await self._client.apply_limit_status(item.key, item.meta.uid, status)
        except (Conflict, NotFound, NotLeading) as error:  # replaced, deleted, or no longer leading
            logger.debug("the status of a SpokeLimit was not written: %s", error, extra={"spokelimit": str(item.key)})
        except ApiError as error:
            if item.key not in self._failing:
                logger.warning("could not write the status of a SpokeLimit: %s", error,
                               extra={"spokelimit": str(item.key)})  # fmt: skip
            self._failing.add(item.key)
        else:
            self._failing.discard(item.key)
            self._store.spokelimit_seen(body)
