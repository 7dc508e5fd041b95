"""TokenReviews: the only call that the task server makes to the API server."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.secret_file import TokenFile, stat_regular
from spoke_jobs.shared.strict_json import NotJson, read_json_object
from spoke_jobs.tasks.protocol.messages import AUDIENCE

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_SECONDS = 5.0
_LONGEST_ANSWER = 1_000_000
"""The most bytes of a TokenReview that are read: it repeats the token, and lists the account's groups."""


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
        try:
            self._token = TokenFile(token_file)
            verify = _context(ca_file) if url.startswith("https:") else False
        except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
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
            headers = {"authorization": f"Bearer {self._token.read()}"}
            answer = await self._client.post(self._url, json=review, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            raise ReviewFailed(f"{type(error).__name__} {error}".strip()) from None
        if answer.status_code not in (200, 201):
            raise ReviewFailed(
                f"it answers {answer.status_code}; the task server's service account must be allowed to create "
                "tokenreviews (ClusterRole system:auth-delegator)"
            )
        return read_review(answer.content)


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
