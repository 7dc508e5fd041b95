"""Tokens for the progress of one job: nobody without a key can write, change or prolong one."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spoke_jobs.contract import progress_token
from spoke_jobs.contract.progress_token import TOKEN_LIMIT, ProgressToken, read_token
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.model import JobRequest
from spoke_jobs.shared.keyed_macs import keyed_mac
from spoke_jobs.shared.secret_file import SecretFile
from spoke_jobs.testing.contexts import fake_context
from spoke_jobs.web.signed_sessions import Session, Signer, session_key

NOW = 1_800_000_000.0
KEY, OTHER = "k" * 32, "o" * 32
TOKEN = ProgressToken(job_id=7, run=2, expires_at=int(NOW) + 60)
TEXT = TOKEN.signed(KEY)


@pytest.fixture
def job() -> JobRequest:
    return fake_context().job


def test_a_token_is_read_until_it_expires() -> None:
    assert read_token(TEXT, [KEY], NOW) == TOKEN
    assert read_token(TEXT, [KEY], NOW + 59.9) == TOKEN
    assert read_token(TEXT, [KEY], NOW + 60) is None
    assert read_token(TEXT, [OTHER, KEY], NOW) == read_token(TEXT, [KEY, OTHER], NOW) == TOKEN, "one replaces the other"
    assert read_token(TEXT, [OTHER], NOW) is read_token(TEXT, [], NOW) is None
    no_row = ProgressToken(2**63, 1, int(NOW) + 60)
    assert read_token(no_row.signed(KEY), [KEY], NOW) is None


def test_a_token_says_nothing_but_job_run_and_expiry() -> None:
    assert TEXT.rpartition(".")[0] == f"7.2.{int(NOW) + 60}"
    assert len(ProgressToken(2**63 - 1, 10**10 - 1, 10**12 - 1).signed(KEY)) <= TOKEN_LIMIT


@pytest.mark.parametrize("change", [{"job_id": 8}, {"run": 1}, {"expires_at": int(NOW) + 3600}])
def test_no_part_of_a_token_can_be_changed(change: dict[str, int]) -> None:
    changed = replace(TOKEN, **change)
    forged = f"{changed.job_id}.{changed.run}.{changed.expires_at}.{TEXT.rpartition('.')[2]}"
    assert read_token(forged, [KEY], NOW) is None
    assert read_token(changed.signed(KEY), [KEY], NOW) == changed


def test_what_the_same_secret_signs_for_sessions_is_no_token() -> None:
    signer = Signer(session_key(KEY))
    signed = TEXT.rpartition(".")[0]
    for purpose in ("session", "form", "progress"):
        mac = keyed_mac(signer.key, purpose, signed)
        assert read_token(f"{signed}.{mac}", [KEY], NOW) is None
    assert signer.session(TEXT, NOW) is None
    session = Session.begin(NOW)
    assert not signer.is_form_token(TEXT.rpartition(".")[2], session, "")


@given(st.text())
@example(TEXT[:-1])
@example(TEXT + "\n")
@example(f"{TEXT}0")
@example(f"0{TEXT}")
@example(f"7.2.{int(NOW) + 60}.{'0' * 64}")
@example("9" * 100_000)
@example(f"{2**63}.1.{int(NOW) + 60}.{'0' * 64}")
def test_any_text_may_be_given_as_a_token(text: str) -> None:
    assert read_token(text, [KEY], NOW) is None


def test_a_text_of_another_form_takes_as_much_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the time would tell how far a forged token is right."""
    compared: list[str] = []

    def compare(shown: str, *_: object) -> bool:
        compared.append(shown)
        return False

    monkeypatch.setattr(progress_token, "is_keyed_mac", compare)
    for text in (TEXT, "nonsense", "7.2", "9" * 1000, ""):
        read_token(text, [KEY, OTHER], NOW)
    assert len(compared) == 5 * 2


def test_a_job_makes_a_token_with_the_key_of_the_deployment(job: JobRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOKE_PROGRESS_KEY", f"{KEY} {OTHER}")
    token = read_token(job.progress_token(valid_for=60), [KEY], time.time())
    assert token is not None
    assert (token.job_id, token.run) == (job.id, job.run)
    assert time.time() < token.expires_at <= time.time() + 61
    assert read_token(job.progress_token(), [OTHER], time.time()) is None, "the first key signs"


def test_a_running_job_makes_its_own_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOKE_PROGRESS_KEY", KEY)
    context = fake_context()
    token = read_token(context.progress_token(valid_for=1), [KEY], time.time())
    assert token is not None
    assert token.job_id == context.job.id


def test_the_key_may_be_in_a_file_or_an_argument(
    job: JobRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n{OTHER}\n")
    assert read_token(job.progress_token(key=OTHER), [OTHER], time.time()) is not None
    assert read_token(job.progress_token(key=SecretFile(str(file))), [KEY], time.time()) is not None
    monkeypatch.setenv("SPOKE_PROGRESS_KEY_FILE", str(file))
    assert read_token(job.progress_token(), [KEY], time.time()) is not None


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "SPOKE_PROGRESS_KEY is not set: set it, or SPOKE_PROGRESS_KEY_FILE"),
        ("s3cret", "has 1 keys, the shortest of 6 characters"),
        (f"{KEY} s3cret", "has 2 keys, the shortest of 6 characters"),
        (f"{KEY} {OTHER} {KEY}", "has 3 keys"),
    ],
)
def test_without_a_usable_key_there_is_no_token(
    job: JobRequest, monkeypatch: pytest.MonkeyPatch, key: str, said: str
) -> None:
    monkeypatch.setenv("SPOKE_PROGRESS_KEY", key)
    with pytest.raises(ConfigurationError) as caught:
        job.progress_token()
    assert said in str(caught.value)
    assert "openssl rand -hex 32" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("valid_for", [0, -1, 30 * 86_400 + 1, float("nan"), float("inf"), True, "60"])
def test_a_time_that_cannot_be_is_refused(job: JobRequest, valid_for: float) -> None:
    with pytest.raises(ValueError, match="valid_for is a number of seconds above 0, at most 2,592,000"):
        job.progress_token(valid_for=valid_for, key=KEY)
