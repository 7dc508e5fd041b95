"""Send a notice to its receiver: one HTTPS request, whose status decides."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from pydantic import ValidationError

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.notices.notice_document import NoticeDocument
from spoke_jobs.notices.signing import signed_headers, signing_key
from spoke_jobs.notices.slack_message import slack_message
from spoke_jobs.shared.https_service import tls_context, url_problem
from spoke_jobs.shared.secret_file import Secret, value_of
from spoke_jobs.tasks.client.transport import retry_after

ANSWER_SECONDS = 10.0
"""How long a receiver may take for its whole answer, with the connection and TLS."""


class Channel(StrEnum):
    """A kind of receiver. A ledger has at most one of each."""

    WEBHOOK = "webhook"
    SLACK = "slack"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a request."""

    delivered: bool
    problem: str = ""
    """Why it was not delivered. It contains neither the URL nor the key."""
    retry_after_seconds: float = 0.0
    """How long the receiver asks to wait."""


@dataclass(frozen=True, slots=True)
class Request:
    """A body and its headers."""

    body: bytes
    headers: Mapping[str, str]


class Sender(Protocol):
    """Sends notices to one receiver."""

    channel: Channel

    def send(self, notice_id: UUID, document: Mapping[str, Any]) -> Delivery:
        """Send a notice. Never raises for what a receiver does."""


class HttpSender:
    """Sends notices to a URL. Redirects are not followed, and the body of an answer is not read.

    :param url: read again for each notice, as is the key, because a file may have another one.
    :param key: signs the requests to a webhook.
    :param ca_file: CA certificates in PEM form that verify the receiver; empty for the system's.
    :raises ConfigurationError: if the URL, the key or the file cannot be used.
    """

    def __init__(
        self,
        channel: Channel,
        url: Secret,
        key: Secret = "",
        ca_file: str = "",
        *,
        answer_seconds: float = ANSWER_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.channel = channel
        self._url, self._key = url, key
        self._answer_seconds = answer_seconds
        self._clock = clock
        self._current_url()
        if channel is Channel.WEBHOOK:
            signing_key(value_of(key))
        self._trust = _trust(ca_file)

    def send(self, notice_id: UUID, document: Mapping[str, Any]) -> Delivery:
        """See :class:`Sender`."""
        try:
            url, request = self._current_url(), self._request(notice_id, document)
        except ConfigurationError as error:  # a file has changed
            return Delivery(delivered=False, problem=str(error))
        except ValidationError:
            return Delivery(delivered=False, problem="another release has made the notice, in a form unknown here")
        return asyncio.run(self._post(url, request))

    def _current_url(self) -> str:
        return checked_url(f"SPOKE_NOTIFY_{self.channel.upper()}_URL", value_of(self._url))

    def _request(self, notice_id: UUID, document: Mapping[str, Any]) -> Request:
        headers = {"content-type": "application/json", "user-agent": "spoke-jobs"}
        if self.channel is Channel.SLACK:
            return Request(_json(slack_message(NoticeDocument.model_validate(document))), headers)
        body = _json(document)
        key = signing_key(value_of(self._key))
        return Request(body, headers | signed_headers(key, str(notice_id), int(self._clock()), body))

    async def _post(self, url: str, request: Request) -> Delivery:
        try:
            client = httpx.AsyncClient(
                verify=self._trust,
                timeout=self._answer_seconds,
                follow_redirects=False,
                trust_env=urlsplit(url).scheme == "https",  # a proxy is another machine: it must not read what is sent
            )
        except (ImportError, ValueError, httpx.InvalidURL):  # their messages have the proxy's URL
            problem = "the proxy that HTTPS_PROXY or ALL_PROXY names can't be used"
            return Delivery(delivered=False, problem=problem)
        try:
            async with (
                asyncio.timeout(self._answer_seconds),
                client,
                client.stream("POST", url, content=request.body, headers=dict(request.headers)) as response,
            ):
                return judged(response)
        except (TimeoutError, httpx.TimeoutException):
            return Delivery(delivered=False, problem=f"no answer within {self._answer_seconds:g} s")
        except httpx.HTTPError as error:
            return Delivery(delivered=False, problem=str(error) or type(error).__name__)
        except (httpx.InvalidURL, UnicodeError):  # their messages have parts of the URL
            return Delivery(delivered=False, problem="the URL has a host or a port that can't be used")


def judged(response: httpx.Response) -> Delivery:
    """Judge an answer by its status."""
    if response.is_success:
        return Delivery(delivered=True)
    said = f"it answers {response.status_code}"
    if response.is_redirect:
        said = f"{said}, a redirect, which is not followed: give the URL to which it leads"
    return Delivery(delivered=False, problem=said, retry_after_seconds=retry_after(response) or 0.0)


def checked_url(setting: str, url: str) -> str:
    """Return the URL of a receiver.

    :raises ConfigurationError: if nothing may be sent to it. The message does not contain it, because it is a secret.
    """
    problem = url_problem(url)
    if problem:
        raise ConfigurationError(f"{setting} can't be used: {problem}")
    return url


def _trust(ca_file: str) -> ssl.SSLContext:
    try:
        return tls_context(ca_file)
    except OSError as error:  # an ssl.SSLError is one
        raise ConfigurationError(
            f"SPOKE_NOTIFY_CA_FILE={ca_file} can't be used ({error}): name a PEM file with the CA certificates that "
            "verify the receivers"
        ) from None


def _json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode()
