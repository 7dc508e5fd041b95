"""Cookies and forms that only the dashboard can write."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spoke_jobs.web.signed_sessions import LASTING_SECONDS, Session, Signer, session_key

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
