"""Cookies and forms that only the dashboard can write, and attempts to sign in."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spoke_jobs.web.signed_sessions import (
    ATTEMPT_SECONDS,
    LASTING_SECONDS,
    Session,
    Signer,
    attempt_of,
    begin_attempt,
    session_key,
)

NOW = 1_800_000_000.0
SIGNER = Signer(session_key("one"))
SESSION = Session.begin(NOW)


@pytest.mark.parametrize("signed_in", [True, False])
def test_a_session_is_read_until_it_is_over(signed_in: bool) -> None:
    session = Session.begin(NOW, signed_in=signed_in)
    cookie = SIGNER.cookie(session)
    assert SIGNER.session(cookie, NOW) == session
    assert SIGNER.session(cookie, NOW + LASTING_SECONDS - 1) == session
    assert SIGNER.session(cookie, NOW + LASTING_SECONDS) is None
    assert SIGNER.session(cookie, NOW - 60) == session, "another replica's clock is behind"
    assert SIGNER.session(cookie, NOW - 61) is None


@pytest.mark.parametrize(
    "session",
    [
        Session.begin(NOW, signed_in=True, name="ada@example.com"),
        Session.begin(NOW, signed_in=True, name="\U0001f600ü" * 100, only_looks=True),
        Session.begin(NOW, signed_in=True, only_looks=True),
        replace(Session.begin(NOW), wanted="/jobs?" + "x" * 1994),
        replace(Session.begin(NOW), wanted='/jobs?type=";,'),
    ],
)
def test_it_keeps_who_it_is_or_which_page_they_want(session: Session) -> None:
    cookie = SIGNER.cookie(session)
    assert SIGNER.session(cookie, NOW) == session
    assert len(cookie) < 4000, "browsers keep no longer ones"
    assert re.fullmatch(r"[A-Za-z0-9._-]+", cookie), "no character has a meaning in a header"


def test_nobody_takes_another_name_or_more_rights() -> None:
    cookie = SIGNER.cookie(Session.begin(NOW, signed_in=True, name="eve", only_looks=True))
    name = cookie.split(".")[3]
    assert SIGNER.session(cookie.replace(f".{name}.", ".YWRh."), NOW) is None
    assert SIGNER.session(cookie.replace(f".{name}.", "."), NOW) is None
    assert SIGNER.session(cookie.replace(".2.", ".1."), NOW) is None
    wanted = SIGNER.cookie(replace(SESSION, wanted="ada"))
    assert SIGNER.session(wanted.replace(".0.", ".1."), NOW) is None


def test_another_key_knows_neither_sessions_nor_forms() -> None:
    other = Signer(session_key("two"))
    assert other.session(SIGNER.cookie(SESSION), NOW) is None
    assert not other.is_form_token(SIGNER.form_token(SESSION, "ada"), SESSION, "ada")


def test_a_session_cannot_be_changed_to_a_signed_in_one() -> None:
    cookie = SIGNER.cookie(SESSION)
    assert cookie.split(".")[2] == "0"
    assert SIGNER.session(cookie.replace(".0.", ".1."), NOW) is None
    assert SIGNER.session(cookie.replace(SESSION.id, "0" * 32), NOW) is None


def test_a_form_is_of_one_session_and_one_viewer() -> None:
    token = SIGNER.form_token(SESSION, "ada")
    assert SIGNER.is_form_token(token, SESSION, "ada")
    assert not SIGNER.is_form_token(token, SESSION, "eve")
    assert not SIGNER.is_form_token(token, replace(SESSION, id="0" * 32), "ada")


@given(st.text())
@example(SIGNER.cookie(SESSION)[:-1])
@example(SIGNER.cookie(SESSION) + "\n")
@example(f"{SESSION.id}.{SESSION.began}.1.{'0' * 64}")
def test_any_text_may_be_a_cookie_or_a_token(text: str) -> None:
    assert SIGNER.session(text, NOW) is None
    assert not SIGNER.is_form_token(text, SESSION, "ada")


KEY = b"k" * 32
ATTEMPT = begin_attempt(KEY, SESSION, NOW)


@pytest.mark.parametrize(
    ("after", "lasts"),
    [(0, True), (ATTEMPT_SECONDS - 1, True), (ATTEMPT_SECONDS, False), (-60, True), (-61, False)],
)
def test_an_attempt_to_sign_in_lasts_for_some_minutes(after: float, lasts: bool) -> None:
    """Another replica may finish it, whose clock is behind."""
    assert attempt_of(KEY, SESSION, ATTEMPT.state, NOW + after) == (ATTEMPT if lasts else None)


def test_an_attempt_is_of_one_session_and_one_key() -> None:
    assert attempt_of(KEY, replace(SESSION, id="0" * 32), ATTEMPT.state, NOW) is None
    assert attempt_of(b"x" * 32, SESSION, ATTEMPT.state, NOW) is None
    assert attempt_of(KEY, SESSION, ATTEMPT.state.replace(".18", ".19"), NOW) is None
    later = replace(SESSION, wanted="/jobs")
    assert attempt_of(KEY, later, ATTEMPT.state, NOW) == ATTEMPT, "another tab asks for another page"


def test_the_parts_of_an_attempt_say_nothing_about_each_other() -> None:
    other = begin_attempt(KEY, SESSION, NOW)
    parts = [
        part
        for each in (ATTEMPT, other)
        for part in (each.state.rpartition(".")[2], each.nonce, each.verifier, each.challenge)
    ]
    assert len(set(parts)) == len(parts)


def test_the_challenge_is_that_of_the_standard() -> None:
    """RFC 7636, appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert replace(ATTEMPT, verifier=verifier).challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert 43 <= len(ATTEMPT.verifier) <= 128


@given(st.text())
@example(ATTEMPT.state[:-1])
@example(ATTEMPT.state + "\n")
@example(ATTEMPT.state.upper())
def test_any_text_may_be_a_state(text: str) -> None:
    assert attempt_of(KEY, SESSION, text, NOW) is None
