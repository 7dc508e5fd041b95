"""Leader election: only one replica of the operator may write."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from spoke_jobs.shared.api_errors import ApiError
from spoke_jobs_operator.core.objects.api_objects import Key
from spoke_jobs_operator.core.process import election
from spoke_jobs_operator.core.process.election import LeaseTimes, Record, Seen
from spoke_jobs_operator.shell.api.operator_client import Client

logger = logging.getLogger(__name__)


class Leadership:
    """The leadership of this process: that of the only replica (Deployment strategy Recreate), which always leads.

    Code that writes to the cluster starts after :meth:`gained` returns, and is stopped after :meth:`lost` returns.
    """

    def leads(self) -> bool:
        """Whether this process may write now."""
        return True

    async def gained(self) -> None:
        """Return once this process leads."""

    async def lost(self) -> None:
        """Return once this process no longer leads."""
        await asyncio.get_running_loop().create_future()

    async def release(self) -> None:
        """Give another replica the chance to lead at once, if this process leads."""


class ByLease(Leadership):
    """Leadership by a Lease. A leader that can't renew stops before another replica may take over.

    The election of the Python Kubernetes client is not used: with it, a leader kept leading while the API server hung.
    This loop gives every call a deadline. Its clock runs on while the process is paused (SIGSTOP), so a leader that was
    paused for too long does not write.

    :param clock: the monotonic clock, in seconds.
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
        self._last_logged = ""

    def leads(self) -> bool:
        """Whether the last renewal is recent enough."""
        return self._clock() < self._until

    async def gained(self) -> None:
        """Wait until the Lease is free or has lapsed, and acquire it."""
        while not await self._try(self._times.renewed_within):  # noqa: ASYNC110 (no event to wait for)
            await asyncio.sleep(self._times.retry)
        logger.info("this replica leads", extra=self._fields())

    async def lost(self) -> None:
        """Renew the Lease until another replica holds it, or until renewals have failed for too long."""
        while self.leads():
            await asyncio.sleep(min(self._times.retry, max(0.0, self._until - self._clock())))
            if self.leads() and not await self._try(self._until - self._clock()) and self._is_held_by_another():
                break
        self._until = float("-inf")
        why = (
            "another replica holds the Lease"
            if self._is_held_by_another()
            else "the Lease could not be renewed in time"
        )
        logger.error("this replica no longer leads: %s", why, extra=self._fields())

    async def release(self) -> None:
        """Release the Lease, so that another replica need not wait until it lapses."""
        if not self.leads() or self._seen is None:
            return
        self._until = float("-inf")
        try:
            async with asyncio.timeout(self._times.retry):
                await self._write(election.released(self._seen.record, datetime.now(UTC)), self._seen.record)
        except (ApiError, TimeoutError) as error:
            logger.warning("could not release the Lease: %s", error, extra=self._fields())

    async def _try(self, seconds: float) -> bool:
        """Acquire or renew the Lease. Return False if another replica holds it, or if there is no answer in time."""
        begun = self._clock()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                held = await self._take()
        except (ApiError, TimeoutError) as error:
            self._log_once(f"could not acquire or renew the Lease; retrying: {str(error) or type(error).__name__}")
            return False
        if held:
            # Leadership counts from before the call. Another replica counts from when it sees the renewal, which is
            # later.
            self._until = begun + self._times.renewed_within
            self._last_logged = ""
        return held and self.leads()  # False if the process was paused for too long during the call

    async def _take(self) -> bool:
        body = await self._client.read_lease(self._lease)
        now = datetime.now(UTC)
        if body is None:
            await self._write(election.held_by(self._identity, self._times, None, now), None)
            return True
        self._seen = election.observe(self._seen, election.read(body), self._clock())
        if not election.may_take(self._seen, self._identity, self._clock()):
            self._log_once(f"standing by: {self._seen.record.holder} leads")
            return False
        before = self._seen.record
        await self._write(election.held_by(self._identity, self._times, before, now), before)
        return True

    async def _write(self, spec: dict[str, Any], before: Record | None) -> None:
        """Write the Lease. :raises Conflict: if another replica wrote it first."""
        body = await self._client.write_lease(self._lease, spec, before.version if before else None)
        self._seen = Seen(election.read(body), self._clock())

    def _is_held_by_another(self) -> bool:
        return self._seen is not None and self._seen.record.holder not in ("", self._identity)

    def _log_once(self, message: str) -> None:
        if message != self._last_logged:
            logger.info(message, extra=self._fields())
        self._last_logged = message

    def _fields(self) -> dict[str, object]:
        return {"lease": str(self._lease), "identity": self._identity}
