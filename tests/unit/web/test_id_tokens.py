"""ID tokens that are refused, and keys that are not used."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from joserfc.jws import JWSRegistry
from tests.contract.openid_provider import changed, signing_keys

from spoke_jobs.web.id_tokens import ALGORITHMS, IdTokenRefused, UnknownKey, read_keys, verified_claims

NOW = 1_800_000_000
CLAIMS = {"iss": "https://sso.test", "sub": "u-7", "aud": "dashboard", "nonce": "n", "iat": NOW, "exp": NOW + 300}
Key = RSAKey | ECKey


def signed(claims: dict[str, Any], key: Key, alg: str = "RS256") -> str:
    return jwt.encode({"alg": alg, "kid": key.kid}, claims, key, algorithms=[alg])


def verified(token: str, *keys: Key, now: float = NOW) -> dict[str, Any]:
    known = read_keys(KeySet(list(keys or signing_keys())).as_dict(private=False))  # type: ignore[arg-type]
    return verified_claims(token, known, issuer="https://sso.test", client_id="dashboard", nonce="n", now=now)


@pytest.mark.parametrize("alg", [each for each in ALGORITHMS if not each.startswith("ES")])
def test_rsa(alg: str) -> None:
    assert verified(signed(CLAIMS, signing_keys()[1], alg)) == CLAIMS


@pytest.mark.parametrize(("alg", "curve"), [("ES256", "P-256"), ("ES384", "P-384"), ("ES512", "P-521")])
def test_elliptic_curves(alg: str, curve: str) -> None:
    key = ECKey.generate_key(curve, auto_kid=True)
    assert verified(signed(CLAIMS, key, alg), key, signing_keys()[0]) == CLAIMS


def test_a_provider_may_add_fields_to_the_header() -> None:
    key = signing_keys()[0]
    registry = JWSRegistry(strict_check_header=False)
    registry.max_header_length = 4096
    token = jwt.encode({"alg": "RS256", "kid": key.kid, "pi.atm": "x" * 1000}, CLAIMS, key, registry=registry)
    assert verified(token) == CLAIMS


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.test"},
        {"iss": "https://sso.test/"},
        {"iss": ["https://sso.test", "https://evil.test"]},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["another", "third"]},
        {"aud": ["dashboard", "another"]},
        {"aud": ["dashboard", "another"], "azp": "another"},
        {"aud": {"dashboard": True}},
        {"aud": None},
        {"azp": "another"},
        {"azp": ""},
        {"nonce": "N"},
        {"nonce": ["n"]},
        {"nonce": None},
        {"exp": NOW - 61},
        {"exp": str(NOW + 300)},
        {"exp": None},
        {"iat": NOW + 61},
        {"iat": None},
        {"nbf": NOW + 61},
        {"sub": None},
    ],
    ids=str,
)
def test_claims_that_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(IdTokenRefused) as refused:
        verified(signed(changed(CLAIMS, claims), signing_keys()[0]))
    assert not isinstance(refused.value, UnknownKey)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 59},
        {"iat": NOW + 59},
        {"nbf": NOW + 59},
        {"aud": ["dashboard"]},
        {"azp": "dashboard"},
        {"aud": ["dashboard", "another"], "azp": "dashboard"},
    ],
    ids=str,
)
def test_claims_that_are_accepted(claims: dict[str, Any]) -> None:
    assert verified(signed({**CLAIMS, **claims}, signing_keys()[0])) == {**CLAIMS, **claims}


@pytest.mark.parametrize("alg", ["none", "HS256", "HS384", "HS512", "EdDSA", "ES256K", "X"])
@pytest.mark.parametrize("known", [True, False])
def test_algorithms_that_are_refused(alg: str, known: bool) -> None:
    """With the public key as a secret, a library that lets the token choose would accept it."""
    key = signing_keys()[0]
    text = ".".join(_encoded(each) for each in ({"alg": alg, **({"kid": key.kid} if known else {})}, CLAIMS))
    mac = b""
    if alg.startswith("HS"):
        mac = hmac.digest(key.as_pem(private=False), text.encode(), f"sha{alg[2:]}")
    token = f"{text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
    with pytest.raises(IdTokenRefused):
        verified(token)


def test_the_algorithm_must_be_of_the_key() -> None:
    with pytest.raises(IdTokenRefused):
        verified(signed(CLAIMS, ECKey.generate_key("P-256", {"kid": signing_keys()[0].kid}), "ES256"))


def test_keys_that_have_not_signed_it() -> None:
    first, second = signing_keys()
    with pytest.raises(UnknownKey):
        verified(signed(CLAIMS, first), second)
    with pytest.raises(UnknownKey):
        verified(signed(CLAIMS, RSAKey.generate_key(2048, {"kid": first.kid})))
    head, _, mac = signed(CLAIMS, first).split(".")
    with pytest.raises(UnknownKey):
        verified(f"{head}.{_encoded({**CLAIMS, 'sub': 'root'})}.{mac}")


@pytest.mark.parametrize(
    "header", [{"alg": "RS256", "kid": "x\nforged"}, {"alg": "x\nforged"}, {"alg": "RS256", "kid": "x" * 3000}]
)
def test_the_text_for_the_log_is_a_short_line(header: dict[str, Any]) -> None:
    with pytest.raises(IdTokenRefused) as refused:
        verified(f"{_encoded(header)}.{_encoded(CLAIMS)}.eHh4eA")
    said = str(refused.value)
    assert said
    assert len(said) < 300
    assert "\n" not in said


def test_a_token_that_names_no_key() -> None:
    first, second = signing_keys()
    token = jwt.encode({"alg": "RS256"}, CLAIMS, first)
    assert verified(token, first) == CLAIMS
    with pytest.raises(UnknownKey):
        verified(token, first, second)


@pytest.mark.parametrize(
    "token", ["", "x", "a.b", "a.b.c", "é.é.é", "....", "e30.e30.e30", "bnVsbA.e30.x", "W10.e30.x", "[" * 100_000]
)
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(IdTokenRefused):
        verified(token)


@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jku", "x5c"]), st.text() | st.none() | st.lists(st.text())
    ),
    st.binary(),
)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_header_and_body(header: dict[str, Any], body: bytes) -> None:
    text = base64.urlsafe_b64encode(body).decode().rstrip("=")
    for alg in ({}, {"alg": "RS256", "kid": signing_keys()[0].kid}):
        with pytest.raises(IdTokenRefused):
            verified(f"{_encoded(header | alg)}.{text}.eHh4eA")


@pytest.mark.parametrize("claims", ["null", "[]", '"x"', "7", "{", "[" * 100_000])
def test_signed_claims_that_are_no_object(claims: str) -> None:
    from joserfc import jws

    key = signing_keys()[0]
    with pytest.raises(IdTokenRefused):
        verified(jws.serialize_compact({"alg": "RS256", "kid": key.kid}, claims, key))


def test_keys_that_are_left_out() -> None:
    good = signing_keys()[0].as_dict(private=False)
    short = {**good, "n": good["n"][:300]}
    document = {
        "keys": [
            *({"kty": "oct", "k": "AAAA"}, {"kty": "OKP", "crv": "Ed25519", "x": "x"}, {"kty": "RSA"}, {}, "x", None),
            *({**good, "use": "enc"}, {**good, "n": 7}, {**good, "key_ops": ["sign"]}, {**good, "kty": ["RSA"]}, short),
            good,
        ]
    }
    assert [key.kid for key in read_keys(document)] == [good["kid"]]


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": []}])
def test_no_keys(document: dict[str, Any]) -> None:
    assert not read_keys(document)


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
