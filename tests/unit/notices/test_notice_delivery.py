"""Sending to receivers that answer, fail, hang, redirect, or are not who they should be."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.receiver import PROXIES, WEBHOOK_KEY, Received, Receiver, receiver
from tests.integration.tasks.support.certificates import Authority
from tests.ports import free_port
from tests.unit.notices.test_notice_document import ID, document

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.notices.notice_delivery import Channel, Delivery, HttpSender, checked_url
from spoke_jobs.notices.signing import signed_headers, signing_key
from spoke_jobs.shared.secret_file import SecretFile

DOCUMENT = document().model_dump(mode="json")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served() -> Iterator[Receiver]:
    with receiver() as served:
        yield served


def webhook(url: str, **changes: Any) -> HttpSender:
    return HttpSender(Channel.WEBHOOK, url, **({"key": WEBHOOK_KEY} | changes))


def is_genuine(request: Received, key: str = WEBHOOK_KEY) -> bool:
    """What a receiver computes."""
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    mac = hmac.new(base64.b64decode(key.removeprefix("whsec_")), signed, hashlib.sha256)
    return request.headers["webhook-signature"] == "v1," + base64.b64encode(mac.digest()).decode()


def test_a_webhook_gets_the_document_signed(served: Receiver) -> None:
    sender = webhook(served.url("/hook?team=a"), clock=lambda: 1_700_000_000.9)
    assert sender.send(ID, DOCUMENT) == Delivery(delivered=True)
    (request,) = served.received
    assert request.path == "/hook?team=a"
    assert request.document == DOCUMENT
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == str(ID)
    assert request.headers["webhook-timestamp"] == "1700000000"
    assert is_genuine(request)
    assert not is_genuine(request, "whsec_" + base64.b64encode(b"x" * 32).decode())


def test_a_second_try_has_the_same_id_and_body_and_a_signature_of_its_time(served: Receiver) -> None:
    times = iter([1.0, 2.0])
    sender = webhook(served.url(), clock=lambda: next(times))
    for _ in range(2):
        sender.send(ID, DOCUMENT)
    first, second = served.received
    assert first.body == second.body
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    assert is_genuine(second)


def test_slack_gets_a_text_and_no_signature(served: Receiver) -> None:
    assert HttpSender(Channel.SLACK, served.url()).send(ID, DOCUMENT).delivered
    (request,) = served.received
    assert request.document["text"].endswith(f"notice {ID}")
    assert "webhook-signature" not in request.headers


def test_a_document_of_another_release_stays_unsent_in_slack(served: Receiver) -> None:
    found = HttpSender(Channel.SLACK, served.url()).send(ID, {"form": 2})
    assert "another release" in found.problem
    assert served.received == []


@pytest.mark.parametrize("status", [200, 299])
def test_any_success_will_do(served: Receiver, status: int) -> None:
    served.status(status)
    assert webhook(served.url()).send(ID, DOCUMENT).delivered


@pytest.mark.parametrize("status", [400, 404, 503])
def test_any_other_answer_is_a_failure(served: Receiver, status: int) -> None:
    served.status(status)
    assert webhook(served.url()).send(ID, DOCUMENT) == Delivery(False, f"it answers {status}")


@pytest.mark.parametrize(
    ("header", "seconds"), [("30", 30.0), ("1000000", 60.0), ("nan", 0.0), ("-5", 0.0), ("x", 0.0)]
)
def test_it_waits_as_long_as_it_is_asked_to_within_bounds(served: Receiver, header: str, seconds: float) -> None:
    served.status(429, Retry_After=header)
    assert webhook(served.url()).send(ID, DOCUMENT).retry_after_seconds == seconds


@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_is_not_followed(served: Receiver, status: int) -> None:
    with receiver() as other:
        served.status(status, Location=other.url())
        found = webhook(served.url()).send(ID, DOCUMENT)
        assert not found.delivered
        assert "redirect" in found.problem
        assert other.received == []


@pytest.mark.parametrize("way", ["hang", "drip"])
def test_a_receiver_that_does_not_come_to_an_end_is_given_up(served: Receiver, way: str) -> None:
    getattr(served, way)()
    found = webhook(served.url(), answer_seconds=0.3).send(ID, DOCUMENT)
    assert found == Delivery(False, "no answer within 0.3 s")
    assert webhook(served.url()).send(ID, DOCUMENT).delivered, "the next one is not concerned"


def test_a_connection_that_breaks_off_and_a_port_where_nobody_listens(served: Receiver) -> None:
    served.break_off()
    for url in (served.url("/secret"), f"http://127.0.0.1:{free_port()}/secret"):
        found = webhook(url).send(ID, DOCUMENT)
        assert not found.delivered
        assert found.problem
        assert "secret" not in found.problem


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "no-such-host.invalid"])
def test_a_host_that_cannot_be_found(host: str) -> None:
    found = webhook(f"https://{host}/secret").send(ID, DOCUMENT)
    assert not found.delivered
    assert found.problem
    assert "secret" not in found.problem


class TestTls:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        return Authority(tmp_path)

    @pytest.fixture
    def served(self, authority: Authority) -> Iterator[Receiver]:
        signed = authority.sign("receiver", "localhost")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(signed.cert, signed.key)
        with receiver(context) as served:
            yield served

    def test_a_verified_receiver_gets_it(self, served: Receiver, authority: Authority) -> None:
        sender = webhook(served.url(host="localhost"), ca_file=str(authority.cert))
        assert sender.send(ID, DOCUMENT) == Delivery(delivered=True)

    def test_one_of_another_authority_gets_nothing(self, served: Receiver) -> None:
        found = webhook(served.url(host="localhost")).send(ID, DOCUMENT)
        assert "CERTIFICATE_VERIFY_FAILED" in found.problem
        assert served.received == []

    def test_one_of_another_name_gets_nothing(self, served: Receiver, authority: Authority) -> None:
        found = webhook(served.url(), ca_file=str(authority.cert)).send(ID, DOCUMENT)
        assert "CERTIFICATE_VERIFY_FAILED" in found.problem
        assert served.received == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example/x",
        "ftp://hooks.example/x",
        "http://10.0.0.1/x",
        "http://127.0.0.1.example/x",
        "https:///x",
        "https://hooks.example:99999/x",
        "https://hooks.example/a b",
        "https://hooks.ex\u00e4mple/x",
        "https://[::1/x",
        "https://hooks.example/x\n",
    ],
)
def test_other_urls_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="SPOKE_NOTIFY_SLACK_URL can't be used") as caught:
        HttpSender(Channel.SLACK, url)
    assert len(url) < 3 or url not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://hooks.example/x", "https://10.0.0.1:8443", "http://localhost:1/", "http://[::1]:8080/x"]
)
def test_urls_that_may_be_used(url: str) -> None:
    assert checked_url("X", url) == url


@pytest.mark.parametrize("key", ["", "short", "whsec_", "not base64!", base64.b64encode(b"x" * 23).decode(), "x" * 200])
def test_keys_that_are_no_keys_are_refused_without_being_repeated(key: str) -> None:
    with pytest.raises(ConfigurationError, match="openssl rand -base64 32") as caught:
        webhook("https://hooks.example/", key=key)
    assert len(key) < 8 or key not in str(caught.value)


def test_a_signature_of_the_specification() -> None:
    """The example of Standard Webhooks' own libraries."""
    key = signing_key("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    headers = signed_headers(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_files_that_change_are_read_again(served: Receiver, tmp_path: Path) -> None:
    url, key = tmp_path / "url", tmp_path / "key"
    url.write_text(served.url("/first"))
    key.write_text(WEBHOOK_KEY)
    sender = webhook(SecretFile(str(url)), key=SecretFile(str(key)))  # type: ignore[arg-type]
    sender.send(ID, DOCUMENT)
    other = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()
    url.write_text(served.url("/second-one"))
    key.write_text(other + "\n")
    sender.send(ID, DOCUMENT)
    assert [request.path for request in served.received] == ["/first", "/second-one"]
    assert is_genuine(served.received[1], other)
    url.write_text("http://elsewhere.example/secret")
    found = sender.send(ID, DOCUMENT)
    assert "SPOKE_NOTIFY_WEBHOOK_URL can't be used" in found.problem
    assert "elsewhere" not in found.problem


def test_a_proxy_of_the_environment_is_used(served: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", served.url(""))
    found = webhook("https://hooks.example/secret").send(ID, DOCUMENT)
    assert not found.delivered, "this proxy connects to nothing"
    (asked,) = served.received
    assert (asked.path, asked.body) == ("hooks.example:443", b"")


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_what_is_not_encrypted_goes_to_no_proxy(scheme: str, served: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as proxy:
        for name in ("HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        assert webhook(served.url().replace("http", scheme, 1)).send(ID, DOCUMENT).delivered
        assert proxy.received == []
    assert len(served.received) == 1


@pytest.mark.parametrize("proxy", ["ftp://user:secret@proxy.example", "http://user:secret@[::1", "http://proxy:port"])
def test_a_proxy_that_cannot_be_used_is_a_failure(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    found = webhook("https://hooks.example/secret").send(ID, DOCUMENT)
    assert found == Delivery(False, "the proxy that HTTPS_PROXY or ALL_PROXY names can't be used")


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("none")
    with pytest.raises(ConfigurationError, match="SPOKE_NOTIFY_CA_FILE="):
        webhook("https://hooks.example/", ca_file=str(tmp_path / "ca.crt"))
