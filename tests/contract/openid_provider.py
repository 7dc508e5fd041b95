"""A small OpenID Connect provider over HTTP: it signs somebody in without asking, and checks what clients send."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import httpx
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from tests import plain_http
from tests.asgi_server import serving

CLIENT_ID = "dashboard"
CLIENT_SECRET = "a secret: +/%é"


@cache
def signing_keys() -> tuple[RSAKey, RSAKey]:
    """The provider's keys. The first one signs."""
    return RSAKey.generate_key(2048, auto_kid=True), RSAKey.generate_key(2048, auto_kid=True)


class OpenIdProvider:
    """The provider. Its fields may be changed between requests."""

    def __init__(self) -> None:
        self.url = ""
        self.claims: dict[str, Any] = {"sub": "u-7", "email": "ada@example.com", "email_verified": True}
        """What it says about whom it signs in; None removes a claim."""
        self.times: dict[str, int] = {}
        """Changes of the times in its claims, in seconds from now."""
        self.metadata: dict[str, Any] = {}
        """Changes of its metadata, likewise."""
        self.keys = list(signing_keys())
        """Those that it publishes."""
        self.sign: Callable[[dict[str, Any]], str] = lambda claims: self.signed(claims)
        """Makes an ID token."""
        self.callback: dict[str, Any] = {}
        """Changes of the address to which it sends browsers back, likewise."""
        self.answers: dict[str, Callable[[], Response]] = {}
        """Its answers to requests for a path, in place of the right ones."""
        self.hangs: set[str] = set()
        """Paths for which it does not answer."""
        self.requests: list[str] = []
        """The paths of all requests."""
        self.asked: dict[str, str] = {}
        """The parameters of the last request to sign somebody in."""
        self._codes: dict[str, dict[str, str]] = {}

    def app(self) -> Starlette:
        paths = {"metadata": "/.well-known/openid-configuration", "keys": "/keys", "auth": "/auth", "token": "/token"}
        return Starlette(
            routes=[
                Route(path, self._endpoint(path, getattr(self, f"_{name}")), methods=["GET", "POST"])
                for name, path in paths.items()
            ]
        )

    def signed(self, claims: dict[str, Any], key: RSAKey | None = None, alg: str = "RS256") -> str:
        """An ID token, signed with a key."""
        key = key or signing_keys()[0]
        return jwt.encode({"alg": alg, "kid": key.kid}, claims, key, algorithms=[alg])

    def sign_in(self, address: str) -> str:
        """Open the address to which the dashboard sends a browser: the one to which the browser is sent back."""
        answer = plain_http.get(address)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def _endpoint(self, path: str, answer: Callable[[Request, dict[str, str]], Response]) -> Any:
        async def endpoint(request: Request) -> Response:
            self.requests.append(path)
            body = (await request.body()).decode()
            if path in self.hangs:
                await request.receive()  # until the client gives up
            if path in self.answers:
                return self.answers[path]()
            return answer(request, dict(request.query_params) if request.method == "GET" else dict(parse_qsl(body)))

        return endpoint

    def _metadata(self, _request: Request, _given: dict[str, str]) -> Response:
        document = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/auth?tenant=7",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "end_session_endpoint": f"{self.url}/end",
            "scopes_supported": ["openid", "email", "profile", "groups", "offline_access"],
        }
        return JSONResponse(changed(document, self.metadata))

    def _keys(self, _request: Request, _given: dict[str, str]) -> Response:
        return JSONResponse(KeySet(self.keys).as_dict(private=False))

    def _auth(self, _request: Request, given: dict[str, str]) -> Response:
        assert given["response_type"] == "code"
        assert given["client_id"] == CLIENT_ID
        assert given["code_challenge_method"] == "S256"
        assert given["tenant"] == "7", "what the endpoint's address has stays in it"
        assert "openid" in given["scope"].split()
        self.asked = given
        code = secrets.token_urlsafe()
        self._codes[code] = given
        back = changed({"code": code, "state": given["state"]}, self.callback)
        return RedirectResponse(str(httpx.URL(given["redirect_uri"]).copy_merge_params(back)), 302)

    def _token(self, request: Request, given: dict[str, str]) -> Response:
        if self._client(request, given) != (CLIENT_ID, CLIENT_SECRET):
            return JSONResponse({"error": "invalid_client"}, 401)
        began = self._codes.pop(given["code"], None)
        digest = hashlib.sha256(given["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if began is None or (began["redirect_uri"], began["code_challenge"]) != (given["redirect_uri"], challenge):
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        times = {name: now + seconds for name, seconds in {"iat": 0, "exp": 300, **self.times}.items()}
        claims = {"iss": self.url, "aud": CLIENT_ID, "nonce": began["nonce"], **times}
        token = self.sign(changed(claims, self.claims))
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": token})

    def _client(self, request: Request, given: dict[str, str]) -> tuple[str, str]:
        if self.metadata.get("token_endpoint_auth_methods_supported") == ["client_secret_post"]:
            assert "authorization" not in request.headers
            return given["client_id"], given["client_secret"]
        assert "client_secret" not in given
        scheme, _, value = request.headers["authorization"].partition(" ")
        assert scheme == "Basic"
        name, _, secret = base64.b64decode(value).decode().partition(":")
        return unquote_plus(name), unquote_plus(secret)


def changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The values with changes, of which None removes one."""
    return {name: value for name, value in {**values, **changes}.items() if value is not None}


@contextmanager
def openid_provider() -> Iterator[OpenIdProvider]:
    """The provider, until the end of the block."""
    provider = OpenIdProvider()
    with serving(provider.app()) as provider.url:
        yield provider
