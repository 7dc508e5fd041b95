"""Which of the operator's replicas may write."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from spoke_jobs.contract.api_errors import ApiError
from spoke_jobs_operator.core import election
from spoke_jobs_operator.core.api_objects import Key
from spoke_jobs_operator.core.election import LeaseTimes, Record, Seen

from .operator_client import Client

logger = logging.getLogger(__name__)


class Leadership(Protocol):
    """Grants the lead. Everything that writes starts after it was gained, and ends when it is lost."""

    def leads(self) -> bool:
        """Whether this process may write now."""

    async def gained(self) -> None:
        """Return once this process leads."""

    async def lost(self) -> None:
        """Return once it no longer does."""

    async def release(self) -> None:
        """Release the lead, if this process has it."""


class Alone:
    """The only replica (Deployment strategy Recreate): it always leads."""

    def leads(self) -> bool:
        """Always."""
        return True

    async def gained(self) -> None:
        """At once."""

    async def lost(self) -> None:
        """Never."""
        await asyncio.get_running_loop().create_future()

    async def release(self) -> None:
        """Nothing to leave."""


class ByLease:
    """The lead by a Lease object. A holder that can't renew stops before others may take over.

    The client library's election continued to lead while the API server hung. This loop gives every call a deadline,
    and uses a clock that goes on while the process is stopped.

    :param clock: seconds, monotonic.
    """

    def __init__(
        self, client: Client, lease: Key, identity: str, times: LeaseTimes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        times.check()
        self._client = client
        self._lease = lease
        self._identity = identity
        self._times = times
        self._clock = clock
        self._seen: Seen | None = None
        self._until = float("-inf")
        self._told = ""

    def leads(self) -> bool:
        """Whether the last renewal is recent enough."""
        return self._clock() < self._until

    async def gained(self) -> None:
        """Wait until the Lease is free or has lapsed, and take it."""
        while not await self._try(self._times.renewed_within):  # noqa: ASYNC110 (it waits for another machine)
            await asyncio.sleep(self._times.retry)
        logger.info("this replica leads", extra=self._fields())

    async def lost(self) -> None:
        """Renew until another has the Lease, or until renewing has failed for too long."""
        while self.leads():
            await asyncio.sleep(min(self._times.retry, max(0.0, self._until - self._clock())))
            if self.leads() and not await self._try(self._until - self._clock()) and self._is_another_s():
                break
        self._until = float("-inf")
        why = "another has the Lease" if self._is_another_s() else "the Lease could not be renewed in time"
        logger.error("this replica leads no more: %s", why, extra=self._fields())

    async def release(self) -> None:
        """Release the Lease, so that another replica need not wait until it lapses."""
        if not self.leads() or self._seen is None:
            return
        self._until = float("-inf")
        try:
            async with asyncio.timeout(self._times.retry):
                await self._write(election.released(self._seen.record, datetime.now(UTC)), self._seen.record)
        except (ApiError, TimeoutError) as error:
            logger.warning("the lead could not be released: %s", error, extra=self._fields())

    async def _try(self, seconds: float) -> bool:
        """Take or renew the lead; False if another has it, or the API server doesn't answer in time."""
        begun = self._clock()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                held = await self._take()
        except (ApiError, TimeoutError) as error:
            self._say(f"the Lease can't be had: {str(error) or type(error).__name__}")
            return False
        if held:
            # Counted from before the call, since others can't have seen the renewal earlier.
            self._until = begun + self._times.renewed_within
            self._told = ""
        return held and self.leads()  # too late if the process was stopped meanwhile

    async def _take(self) -> bool:
        body = await self._client.read_lease(self._lease)
        now = datetime.now(UTC)
        if body is None:
            await self._write(election.held_by(self._identity, self._times, None, now), None)
            return True
        self._seen = election.observe(self._seen, election.read(body), self._clock())
        if not election.may_take(self._seen, self._identity, self._clock()):
            self._say(f"standing by: {self._seen.record.holder} leads")
            return False
        before = self._seen.record
        await self._write(election.held_by(self._identity, self._times, before, now), before)
        return True

    async def _write(self, spec: dict[str, Any], before: Record | None) -> None:
        """Write the Lease. :raises Conflict: if another replica was faster."""
        body = await self._client.write_lease(self._lease, spec, before.version if before else None)
        self._seen = Seen(election.read(body), self._clock())

    def _is_another_s(self) -> bool:
        return self._seen is not None and self._seen.record.holder not in ("", self._identity)

    def _say(self, words: str) -> None:
        if words != self._told:
            logger.info(words, extra=self._fields())
        self._told = words

    def _fields(self) -> dict[str, object]:
        return {"lease": str(self._lease), "identity": self._identity}
