"""`spoke-jobs notify --once` on an SQLite ledger, with receivers on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.contract.receiver import PROXIES, WEBHOOK_KEY, Receiver, receiver
from tests.unit.cli.conftest import Run, fail

from spoke_jobs.ledger.notices import notice_rows
from spoke_jobs.ledger.sql_ledger import SqlLedger


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver, which the settings name as a webhook and as Slack."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    with receiver() as served:
        monkeypatch.setenv("SPOKE_NOTIFY_WEBHOOK_URL", served.url("/hook"))
        monkeypatch.setenv("SPOKE_NOTIFY_WEBHOOK_KEY", WEBHOOK_KEY)
        monkeypatch.setenv("SPOKE_NOTIFY_SLACK_URL", served.url("/slack"))
        monkeypatch.setenv("SPOKE_NOTIFY_NAME", "shop")
        yield served


def test_it_sends_to_each_receiver_and_exits(ledger: SqlLedger, run: Run, served: Receiver) -> None:
    assert run("notify", "--once").stdout == "webhook: sent 0 notices, 0 waiting\nslack: sent 0 notices, 0 waiting\n"
    job_id = fail(ledger)
    assert run("notify", "--once").stdout == "webhook: sent 1 notice, 0 waiting\nslack: sent 1 notice, 0 waiting\n"
    hook, slack = served.received
    assert (hook.path, slack.path) == ("/hook", "/slack")
    assert hook.document["source"] == "shop"
    assert f"spoke-jobs why {job_id}" in slack.document["text"]
    assert run("notify", "--once").exit_code == 0
    assert len(served.received) == 2


def test_what_cannot_be_sent_is_an_error_without_the_url(
    ledger: SqlLedger,
    run: Run,
    served: Receiver,
) -> None:
    run("notify", "--once")
    fail(ledger)
    served.status(500)
    result = run("notify", "--once", code=1)
    assert "webhook: sent 0 notices, 1 waiting" in result.stdout
    assert "a notice could not be sent to the webhook: it answers 500. The next call tries again" in result.stderr
    assert "/hook" not in result.stderr
    assert served.received[1].path == "/slack", "the other receiver gets its own"


def test_another_process_that_sends_is_named(ledger: SqlLedger, run: Run, served: Receiver) -> None:
    with ledger.engine.begin() as connection:
        assert notice_rows.hold(connection, "webhook", uuid4(), "other") is not None
    result = run("notify", "--once")
    assert "webhook: another process sends" in result.stdout
    assert "slack: sent 0 notices" in result.stdout


def test_options_reach_the_decisions(ledger: SqlLedger, run: Run, served: Receiver) -> None:
    run("notify", "--once")
    fail(ledger)
    run("notify", "--once", "--messages", "--period", "1s")
    assert served.received[0].document["groups"][0]["message"] == "no"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"SPOKE_NOTIFY_WEBHOOK_URL": "", "SPOKE_NOTIFY_SLACK_URL": ""}, "there is nobody to notify"),
        ({"SPOKE_NOTIFY_WEBHOOK_KEY": ""}, "SPOKE_NOTIFY_WEBHOOK_KEY is not set"),
        ({"SPOKE_NOTIFY_WEBHOOK_KEY": "short"}, "SPOKE_NOTIFY_WEBHOOK_KEY is not base64"),
        ({"SPOKE_NOTIFY_SLACK_URL": "http://hooks.example/secret"}, "SPOKE_NOTIFY_SLACK_URL can't be used"),
        ({"SPOKE_NOTIFY_NAME": "x" * 101}, "SPOKE_NOTIFY_NAME"),
        ({"SPOKE_NOTIFY_DASHBOARD_URL": "jobs.example.com"}, "SPOKE_NOTIFY_DASHBOARD_URL"),
        ({"SPOKE_NOTIFY_DASHBOARD_URL": "https://x/" + "a" * 491}, "SPOKE_NOTIFY_DASHBOARD_URL"),
        ({"SPOKE_NOTIFY_SLACK_URL_FILE": "/nowhere"}, "SPOKE_NOTIFY_SLACK_URL"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    run: Run,
    served: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    said: str,
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    result = run("notify", "--once", code=1)
    assert said in result.stderr
    assert "secret" not in result.stderr
    assert "short" not in result.stderr


def test_secrets_may_be_in_files(
    ledger: SqlLedger,
    run: Run,
    served: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name in ("WEBHOOK_URL", "WEBHOOK_KEY", "SLACK_URL"):
        file = tmp_path / name
        file.write_text({"WEBHOOK_KEY": WEBHOOK_KEY}.get(name, served.url(f"/file-{name}")))
        monkeypatch.setenv(f"SPOKE_NOTIFY_{name}", "")
        monkeypatch.setenv(f"SPOKE_NOTIFY_{name}_FILE", str(file))
    run("notify", "--once")
    fail(ledger)
    run("notify", "--once")
    assert [request.path for request in served.received] == ["/file-WEBHOOK_URL", "/file-SLACK_URL"]


@pytest.mark.parametrize("given", ["--period=0s", "--every=soon", "--quiet=0.5s"])
def test_durations_that_are_none_are_refused(run: Run, served: Receiver, given: str) -> None:
    assert given.partition("=")[0] in run("notify", "--once", given, code=2).stderr


def test_a_test_reaches_each_receiver_and_needs_no_database(
    run: Run, served: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOKE_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/nowhere")
    assert run("notify", "--test").stdout == "webhook: sent\nslack: sent\n"
    hook, slack = served.received
    assert (hook.document["kind"], hook.document["failures"], hook.document["source"]) == ("test", 0, "shop")
    assert slack.document["text"].startswith("*A test: no job has failed* (shop)")
    served.status(404)
    failed = run("notify", "--test", code=1)
    assert failed.stdout == "webhook: not sent\nslack: sent\n"
    assert "the test could not be sent to the webhook: it answers 404" in failed.stderr
