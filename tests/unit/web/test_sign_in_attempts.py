"""Attempts to sign in, which only the session that began them can finish."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spoke_jobs.web.signed_sessions import ATTEMPT_SECONDS, Session, attempt_of, begin_attempt

NOW = 1_800_000_000.0
KEY = b"k" * 32
SESSION = Session.begin(NOW)
ATTEMPT = begin_attempt(KEY, SESSION, NOW)


@pytest.mark.parametrize(
    ("after", "lasts"),
    [(0, True), (ATTEMPT_SECONDS - 1, True), (ATTEMPT_SECONDS, False), (-60, True), (-61, False)],
)
def test_it_lasts_for_some_minutes(after: float, lasts: bool) -> None:
    """Another replica may finish it, whose clock is behind."""
    assert attempt_of(KEY, SESSION, ATTEMPT.state, NOW + after) == (ATTEMPT if lasts else None)


def test_it_is_of_one_session_and_one_key() -> None:
    assert attempt_of(KEY, replace(SESSION, id="0" * 32), ATTEMPT.state, NOW) is None
    assert attempt_of(b"x" * 32, SESSION, ATTEMPT.state, NOW) is None
    assert attempt_of(KEY, SESSION, ATTEMPT.state.replace(".18", ".19"), NOW) is None
    later = replace(SESSION, wanted="/jobs")
    assert attempt_of(KEY, later, ATTEMPT.state, NOW) == ATTEMPT, "another tab asks for another page"


def test_its_parts_say_nothing_about_each_other() -> None:
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
