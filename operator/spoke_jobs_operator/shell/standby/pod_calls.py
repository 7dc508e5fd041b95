"""Call standby pods on the pod network.

What answers at a pod's address may be anything. So an answer is read up to a limit, and redirections are not followed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from enum import Enum
from ipaddress import ip_address

import aiohttp

from spoke_jobs.contract.standby import LIMIT_BYTES, PATH, PORT, PodState, read_state

TIMEOUT_SECONDS = 2.0
"""How long an assignment may take."""
ASK_SECONDS = 1.0
"""How long the answer to a question may take. It is asked again."""
_CONNECT_SHARE = 0.75
"""The share of these times within which the connection must be made: what was not connected was not told."""
_NO_ANSWER, _NOT_CONNECTED = 0, -1
_MOST_CONNECTIONS = 64
logger = logging.getLogger(__name__)


class Reply(Enum):
    """How a standby pod replies to an assignment."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """It has another attempt, or the proof is not for it."""
    NONE = "none"
    """No answer, or one that is none of a standby pod."""
    NOT_CONNECTED = "not connected"
    """No connection, so that nothing was sent."""


class PodCalls:
    """What the operator asks of standby pods, over HTTP. For one event loop."""

    def __init__(
        self, port: int = PORT, timeout_seconds: float = TIMEOUT_SECONDS, ask_seconds: float = ASK_SECONDS
    ) -> None:
        self._port = port
        self._timeouts = {"GET": ask_seconds, "POST": timeout_seconds}
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        """By method: pods that do not answer to questions must not delay assignments."""

    async def states(self, ips: Sequence[str]) -> list[PodState | None]:
        """Return the pods' states, asked at the same time; None if one does not answer, or not yet."""
        return await asyncio.gather(*map(self._state, ips))

    async def _state(self, ip: str) -> PodState | None:
        status, data = await self._send("GET", ip)
        return read_state(data) if status == 200 else None

    async def assign(self, ip: str, secret: str, body: bytes) -> Reply:
        """Assign an attempt."""
        status, data = await self._send("POST", ip, body, {"Authorization": f"Bearer {secret}"})
        if status == 200 and read_state(data) is PodState.ASSIGNED:
            return Reply.ACCEPTED
        if status == _NOT_CONNECTED:
            return Reply.NOT_CONNECTED
        return Reply.REFUSED if 400 <= status < 500 else Reply.NONE

    async def close(self) -> None:
        """Close the connections."""
        for session in self._sessions.values():
            await session.close()

    async def _send(
        self, method: str, ip: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return the status and the beginning of the body; in place of the status, why there is none."""
        try:
            address = ip_address(ip)
        except ValueError:
            return _NOT_CONNECTED, b""
        host = f"[{address}]" if address.version == 6 else str(address)
        if method not in self._sessions:
            # A new connection for each call: the next pod at this address is another one.
            connector = aiohttp.TCPConnector(limit=_MOST_CONNECTIONS, force_close=True)
            seconds = self._timeouts[method]
            timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=seconds * _CONNECT_SHARE)
            self._sessions[method] = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        try:
            async with self._sessions[method].request(
                method, f"http://{host}:{self._port}{PATH}", data=body, headers=headers, allow_redirects=False
            ) as response:
                return response.status, await response.content.read(LIMIT_BYTES + 1)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            logger.debug("a standby pod does not answer: %s", error, extra={"address": ip})
            not_connected = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            return _NOT_CONNECTED if not_connected else _NO_ANSWER, b""
