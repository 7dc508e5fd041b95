"""Requests to an OpenID Connect provider: its metadata, its keys, and an ID token for a code.

Each has a limit on its time and on the size of its answer, and follows no redirect. They are rare, so each has a
connection of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import quote_plus, urlsplit

import httpx
from joserfc.jwk import KeySet

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.clean_text import short_repr, visible_in_a_line
from spoke_jobs.shared.https_service import base_url_problem, tls_context, url_problem
from spoke_jobs.shared.secret_file import Secret, value_of
from spoke_jobs.shared.strict_json import NotJson, read_json_object
from spoke_jobs.web.id_tokens import read_keys

ANSWER_SECONDS = 10.0
"""How long the provider may take for a whole answer, with the connection and TLS."""
LARGEST_ANSWER_BYTES = 262_144
KEPT_SECONDS = 3600.0
"""How long metadata and keys are kept. A key that the provider has removed is trusted for no longer."""
RETRY_SECONDS = 5.0
"""For how long a failure is kept, so that many people do not wait for a provider that hangs."""
WELL_KNOWN = "/.well-known/openid-configuration"
_CODE_LIMIT = 40
T = TypeVar("T")


class ProviderFailed(Exception):
    """The provider did not answer as it should. The message is for the log, and contains no secret."""


class CodeRefused(ProviderFailed):
    """The provider gives no ID token for a code, and says why."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the provider answers {short_repr(code)}")
        self.code = code
        """The error by its name in OAuth: ``invalid_grant``, for example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderMetadata:
    """What a provider says about itself."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str = ""
    scopes: frozenset[str] | None = None
    """The scopes that it knows; None if it does not say."""
    secret_in_body: bool = False
    """Whether it takes the client's secret only as a field of a form."""
    names_itself: bool = False
    """Whether it names itself in the addresses to which it sends browsers back."""


class OidcProvider:
    """Sends the requests.

    :param issuer: the provider's URL, as it gives it itself.
    :param client_secret: read again for each request, because a file may have another one.
    :param ca_file: CA certificates in PEM form that verify the provider; empty for the system's.
    :raises ConfigurationError: if the URL or the file cannot be used.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: Secret,
        ca_file: str = "",
        *,
        answer_seconds: float = ANSWER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if problem := base_url_problem(issuer):
            raise ConfigurationError(f"the issuer's URL can't be used: {problem}")
        self.issuer = issuer
        self.client_id = client_id
        self._client_secret = client_secret
        self._answer_seconds = answer_seconds
        try:
            self._trust = tls_context(ca_file)
        except OSError as error:  # an ssl.SSLError is one
            raise ConfigurationError(
                f"{ca_file} can't be used ({error}): name a PEM file with the CA certificates that verify the provider"
            ) from None
        self._metadata = _Kept(self._read_metadata, clock)
        self._keys = _Kept(self._read_keys, clock)

    async def metadata(self) -> ProviderMetadata:
        """Return what the provider says about itself.

        :raises ProviderFailed: if it does not.
        """
        return await self._metadata.value(KEPT_SECONDS)

    async def keys(self, *, fresh: bool = False) -> KeySet:
        """Return the provider's keys.

        :param fresh: whether they must have been read within :data:`RETRY_SECONDS`.
        :raises ProviderFailed: if it gives none.
        """
        return await self._keys.value(RETRY_SECONDS if fresh else KEPT_SECONDS)

    async def id_token(self, code: str, verifier: str, redirect_uri: str) -> str:
        """Return the ID token for a code.

        :param verifier: PKCE's secret.
        :raises CodeRefused: if the provider refuses the code or the client.
        :raises ProviderFailed: if it gives no ID token for another reason.
        """
        metadata = await self.metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        secret = value_of(self._client_secret)
        if metadata.secret_in_body:
            ask = partial(self._answer, "POST", data=form | {"client_id": self.client_id, "client_secret": secret})
        else:
            basic = httpx.BasicAuth(quote_plus(self.client_id), quote_plus(secret))
            ask = partial(self._answer, "POST", data=form, auth=basic)
        status, answer = await ask(metadata.token_endpoint)
        error = answer.get("error")
        if status != httpx.codes.OK and isinstance(error, str):
            raise CodeRefused(visible_in_a_line(error[:_CODE_LIMIT]))
        token = answer.get("id_token")
        if status != httpx.codes.OK or not isinstance(token, str):
            raise ProviderFailed(f"the token endpoint answers {status}, without an ID token")
        return token

    async def _read_metadata(self) -> ProviderMetadata:
        url = self.issuer.rstrip("/") + WELL_KNOWN
        status, found = await self._answer("GET", url)
        if status != httpx.codes.OK:
            raise ProviderFailed(f"{url} answers {status}: is this the issuer's URL?")
        if found.get("issuer") != self.issuer:
            said = short_repr(found.get("issuer"))
            raise ProviderFailed(f"the provider gives its issuer as {said}, and not as {self.issuer!r}: use its form")
        return read_metadata(found, local=urlsplit(self.issuer).scheme == "http")

    async def _read_keys(self) -> KeySet:
        url = (await self.metadata()).jwks_uri
        status, found = await self._answer("GET", url)
        if status != httpx.codes.OK:
            raise ProviderFailed(f"{url} answers {status}, without keys")
        return read_keys(found)

    async def _answer(self, method: str, url: str, **request: Any) -> tuple[int, Mapping[str, Any]]:
        """Send a request, and return the status and the JSON object of the answer."""
        host = urlsplit(url).netloc
        headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "spoke-jobs"}
        body = bytearray()
        try:
            async with (
                asyncio.timeout(self._answer_seconds),
                httpx.AsyncClient(
                    verify=self._trust,
                    timeout=self._answer_seconds,
                    follow_redirects=False,
                    trust_env=urlsplit(url).scheme == "https",  # a proxy is another machine: it must not read secrets
                ) as client,
                client.stream(method, url, headers=headers, **request) as response,
            ):
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > LARGEST_ANSWER_BYTES:
                        raise ProviderFailed(f"{host} answers with more than {LARGEST_ANSWER_BYTES} bytes")
        except (TimeoutError, httpx.TimeoutException):
            raise ProviderFailed(f"{host} does not answer within {self._answer_seconds:g} s") from None
        except httpx.HTTPError as error:
            raise ProviderFailed(f"{host} can't be reached ({str(error) or type(error).__name__})") from None
        except (ImportError, ValueError, httpx.InvalidURL):  # their messages may have the proxy's URL
            raise ProviderFailed(f"{host} can't be reached: its URL or that of the proxy can't be used") from None
        found = read_json_object(bytes(body))
        if isinstance(found, NotJson):
            raise ProviderFailed(f"{host} answers {response.status_code} with {found.problem}")
        return response.status_code, found


def read_metadata(document: Mapping[str, Any], *, local: bool) -> ProviderMetadata:
    """Read a provider's metadata.

    :param local: whether the provider is on the same machine, so that it may name services there over ``http://``.
    :raises ProviderFailed: if a URL is missing that the code flow needs, or may not be used.
    """
    needed = {name: document.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
    for name, url in needed.items():
        problem = _endpoint_problem(url, local=local) if isinstance(url, str) else "it is missing"
        if problem:
            raise ProviderFailed(f"{name} of the provider can't be used: {problem}")
    end = document.get("end_session_endpoint")
    scopes, methods = document.get("scopes_supported"), document.get("token_endpoint_auth_methods_supported")
    in_body = isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods
    return ProviderMetadata(
        **{name: str(url) for name, url in needed.items()},
        end_session_endpoint=end if isinstance(end, str) and not _endpoint_problem(end, local=local) else "",
        scopes=frozenset(map(str, scopes)) if isinstance(scopes, list) else None,
        secret_in_body=in_body,
        names_itself=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _endpoint_problem(url: str, *, local: bool) -> str:
    """Say why a URL of the metadata may not be used; empty if it may. The text does not contain it."""
    if problem := url_problem(url):
        return problem
    if not local and urlsplit(url).scheme != "https":
        return "it begins with http://, and the issuer's URL with https://"
    try:
        httpx.URL(url)
    except httpx.InvalidURL:
        return "it is not a URL"
    return ""


class _Kept(Generic[T]):
    """What was read from the provider, for some time. One request reads it for all that want it."""

    def __init__(self, read: Callable[[], Awaitable[T]], clock: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        self._reading = asyncio.Lock()
        self._found: tuple[float, T] | None = None
        self._failed: tuple[float, ProviderFailed] | None = None

    async def value(self, within: float) -> T:
        """Return the value.

        :param within: seconds since which it may have been read at the earliest.
        :raises ProviderFailed: if it cannot be read now, or could not be read a moment ago.
        """
        async with self._reading:
            now = self._clock()
            if self._found is not None and now - self._found[0] < within:
                return self._found[1]
            if self._failed is not None and now - self._failed[0] < RETRY_SECONDS:
                raise ProviderFailed(str(self._failed[1]))
            try:
                value = await self._read()
            except ProviderFailed as failure:
                self._failed = (self._clock(), failure)
                raise
            self._found = (self._clock(), value)
            return value
