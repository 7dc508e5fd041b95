"""Send a message through the carrier over HTTP."""

from __future__ import annotations

from functools import cache

import httpx

from texting.settings import settings


class CarrierRefusedError(Exception):
    """The carrier refuses this message for good."""


IDLE_SECONDS = 2.0
"""How long an idle connection is kept: less than servers do, which often close it after five seconds."""


class Carrier:
    """A carrier's HTTP interface. One instance serves many threads."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._client = httpx.Client(
            base_url=url, timeout=timeout_seconds, limits=httpx.Limits(keepalive_expiry=IDLE_SECONDS)
        )

    def send(self, *, key: str, to: str, text: str) -> None:
        """Send a message. If the carrier closes the connection instead of an answer, try once more with the same key.

        :param key: the idempotency key. The carrier accepts one message for each key.
        :param to: the number, in E.164.
        :raises CarrierRefusedError: if the carrier refuses the message.
        :raises httpx.HTTPError: if the result is unknown. Send again with the same key.
        """
        try:
            answer = self._post(key, to, text)
        except httpx.RemoteProtocolError:  # mostly a connection that the carrier closed as idle just before the request
            answer = self._post(key, to, text)
        if answer.is_client_error and answer.status_code not in (408, 425, 429):
            raise CarrierRefusedError(f"the carrier answered {answer.status_code}: {answer.text[:200]}")
        answer.raise_for_status()

    def _post(self, key: str, to: str, text: str) -> httpx.Response:
        return self._client.post("/messages", json={"to": to, "text": text}, headers={"Idempotency-Key": key})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


@cache
def carrier() -> Carrier:
    """Return the process's client. Creating one for each message would cost more than sending it."""
    return Carrier(str(settings().carrier_url), settings().carrier_timeout_seconds)
