"""Verify ID tokens: who signed them, for whom, and until when they hold. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.jwt import ClaimsOption, JWTClaimsRegistry

from spoke_jobs.shared.clean_text import visible_in_a_line

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
"""The accepted ones. All are asymmetric: with another one, whoever knows the client's secret could sign tokens."""
LEEWAY_SECONDS = 60
"""How far the clocks of the provider and of the dashboard may differ."""
_SMALLEST_RSA_BITS = 2048
_LONGEST_HEADER = 4096
_LONGEST_TEXT = 200
_KEY_TYPES: dict[str, type[RSAKey] | type[ECKey]] = {"RSA": RSAKey, "EC": ECKey}


class IdTokenRefused(Exception):
    """An ID token is not valid. The message is for the log. Of the token, it has parts of the header at most."""


class UnknownKey(IdTokenRefused):
    """None of the keys has signed the token. The provider may have new ones."""


def read_keys(document: Mapping[str, Any]) -> KeySet:
    """Read the provider's keys. Keys of other kinds, and those that are too short or broken, are left out."""
    listed = document.get("keys")
    keys: list[Any] = []
    for each in listed if isinstance(listed, list) else ():
        kind = _KEY_TYPES.get(str(each.get("kty"))) if isinstance(each, dict) else None
        if kind is None or each.get("use", "sig") != "sig" or _is_short(each):
            continue
        try:
            key = kind.import_key(each)
            key.get_op_key("verify")
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        keys.append(key)
    return KeySet(keys)


def _is_short(key: Mapping[str, Any]) -> bool:
    """Whether it is an RSA key whose modulus, in base64, has too few digits. The library only warns of such a key."""
    return key["kty"] == "RSA" and len(str(key.get("n"))) * 6 < _SMALLEST_RSA_BITS


def verified_claims(token: str, keys: KeySet, *, issuer: str, client_id: str, nonce: str, now: float) -> dict[str, Any]:
    """Return the claims of an ID token.

    :param nonce: that of the attempt to sign in.
    :raises UnknownKey: if none of the keys has signed it.
    :raises IdTokenRefused: if it is not valid for another reason.
    """
    registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)  # providers add fields of their own
    registry.max_header_length = _LONGEST_HEADER
    try:
        claims: Any = jwt.decode(token, keys, algorithms=ALGORITHMS, registry=registry).claims
        if not isinstance(claims, dict):
            raise IdTokenRefused("its claims are no JSON object")
        # It accepts a list in place of a text, so it checks only that the claims are there, and the times.
        needed = dict.fromkeys(("iss", "sub", "aud", "exp", "iat", "nonce"), ClaimsOption(essential=True))
        there = JWTClaimsRegistry(now=int(now), leeway=LEEWAY_SECONDS, **needed)
        there.validate(claims)
    except (InvalidKeyIdError, BadSignatureError) as error:
        raise UnknownKey(_line(error)) from None
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise IdTokenRefused(_line(error)) from None
    for name, wanted in (("iss", issuer), ("nonce", nonce)):
        if claims[name] != wanted:
            raise IdTokenRefused(f"its claim {name!r} is another one")
    _check_audience(claims, client_id)
    return claims


def _line(error: Exception) -> str:
    """Return an error of the library as a part of a line. It may quote the token's header."""
    return visible_in_a_line(f"{type(error).__name__} {error}".strip()[:_LONGEST_TEXT])


def _check_audience(claims: Mapping[str, Any], client_id: str) -> None:
    """Check that the token is for this client alone, or that this client has asked for it."""
    audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if client_id not in audience:
        raise IdTokenRefused("it is for another client (aud)")
    party = claims.get("azp")
    if party is None and len(audience) > 1:
        raise IdTokenRefused("it is for several clients, and does not name the one that asked for it (azp)")
    if party is not None and party != client_id:
        raise IdTokenRefused("another client asked for it (azp)")
