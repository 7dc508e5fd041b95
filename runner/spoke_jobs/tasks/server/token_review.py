"""TokenReviews: the only call that the task server makes to the API server."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.secret_file import stat_regular
from spoke_jobs.shared.strict_json import NotJson, read_json_object
from spoke_jobs.tasks.protocol.messages import AUDIENCE

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_SECONDS = 5.0
_LONGEST_ANSWER = 1_000_000
"""The most bytes of a TokenReview that are read: it repeats the token, and lists the account's groups."""
_TOKEN_SECONDS = 30.0
"""How often this process's own token is read again, since the kubelet renews it."""


class ReviewFailed(Exception):
    """The API server did not review a token. The message says why, and contains no token."""


Review = Callable[[str], Awaitable[dict[str, Any]]]
"""Takes a token and returns the ``status`` of its TokenReview; raises :class:`ReviewFailed`."""


class TokenReviews:
    """Lets an API server review tokens.

    :param url: the URL of the API server.
    :param ca_file: the CA certificates that verify it; empty for the system's.
    :param token_file: this process's own token.
    :raises ConfigurationError: if a file cannot be used.
    """

    def __init__(self, url: str, ca_file: str, token_file: str) -> None:
        self._url = url.rstrip("/") + PATH
        self._token_file = Path(token_file)
        self._token = ""
        self._read_at = float("-inf")
        try:
            self._own_token()
            verify = _context(ca_file) if url.startswith("https:") else False
        except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError, and a UnicodeDecodeError a ValueError
            raise ConfigurationError(
                f"SPOKE_TASKS_CALLERS needs TokenReviews, and these need a service account's token: {error}. Mount "
                "the token, or set SPOKE_TASKS_API_TOKEN_FILE and SPOKE_TASKS_API_CA_FILE"
            ) from None
        self._client = httpx.AsyncClient(verify=verify, trust_env=False, timeout=_SECONDS)

    async def __call__(self, token: str) -> dict[str, Any]:
        """Return the ``status`` of the token's review.

        :raises ReviewFailed: if the API server gives none.
        """
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        try:
            headers = {"authorization": f"Bearer {self._own_token()}"}
            answer = await self._client.post(self._url, json=review, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            raise ReviewFailed(f"{type(error).__name__} {error}".strip()) from None
        except ValueError:  # say nothing of the token
            raise ReviewFailed(f"{self._token_file} has no token that can be sent") from None
        if answer.status_code not in (200, 201):
            self._read_at = float("-inf")  # our own token may have expired: read it again
            raise ReviewFailed(
                f"it answers {answer.status_code}; the task server's service account must be allowed to create "
                "tokenreviews (ClusterRole system:auth-delegator)"
            )
        return read_review(answer.content)

    def _own_token(self) -> str:
        if time.monotonic() - self._read_at > _TOKEN_SECONDS:
            stat_regular(self._token_file)
            token = self._token_file.read_text("utf-8").strip()
            if not (token.isascii() and token.isprintable()):
                raise ValueError(f"{self._token_file} can't be sent in a header")
            self._token = token
            self._read_at = time.monotonic()
        return self._token


def read_review(data: bytes) -> dict[str, Any]:
    """Read the ``status`` of a TokenReview.

    :raises ReviewFailed: if it is none.
    """
    review = read_json_object(data, _LONGEST_ANSWER)
    status = None if isinstance(review, NotJson) else review.get("status")
    if not isinstance(status, dict):
        raise ReviewFailed("its answer is not a TokenReview")
    return status


def _context(ca_file: str) -> ssl.SSLContext:
    if ca_file:
        stat_regular(ca_file)
    return ssl.create_default_context(cafile=ca_file or None)
