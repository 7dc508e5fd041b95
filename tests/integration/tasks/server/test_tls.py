"""Tasks over TLS: a real server with a certificate that is renewed, and dispatchers that verify it."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import ssl
from pathlib import Path

import pytest
from tests.integration.tasks.conftest import MakeDispatcher, StartServer
from tests.integration.tasks.support.certificates import Authority
from tests.integration.tasks.support.servers import KEY
from tests.waiting import eventually, patient

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.tasks.client import replicas, trust
from spoke_jobs.tasks.client.dispatcher import DispatcherOptions, TaskDispatcher


def presented(port: int, ca: Path) -> int:
    """The serial number of the certificate that a new connection gets."""
    context = ssl.create_default_context(cafile=str(ca))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=patient(60)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        return int(str((secured.getpeercert() or {})["serialNumber"]), 16)


def test_tasks_are_sent_over_verified_tls_and_both_sides_follow_a_renewal(
    start_server: StartServer,
    make_dispatcher: MakeDispatcher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(trust, "LOOK_EVERY_SECONDS", 0.1)
    first, second = Authority(tmp_path, "first-ca"), Authority(tmp_path, "second-ca")
    cert, key, ca = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt"

    def install(authority: Authority, name: str) -> None:
        signed = authority.sign(name)
        for source, target in ((signed.cert, cert), (signed.key, key)):
            new = target.with_suffix(".new")  # replaced in one step, as the kubelet does
            shutil.copy(source, new)
            new.rename(target)

    install(first, "one")
    shutil.copy(first.cert, ca)
    server = start_server(tls_cert_file=cert, tls_key_file=key)
    port = server.port
    url = f"https://localhost:{port}"
    dispatcher = make_dispatcher(url, ca_file=str(ca), resolve=lambda *_: ["127.0.0.1"])
    dispatcher.submit("mark", "1")
    assert dispatcher.flush(patient(120))
    before = presented(port, first.cert)

    with monkeypatch.context() as patience:
        # They wait after their first try. One that is closed while it connects would leave its socket to the collector.
        patience.setattr(replicas, "BACKOFF_SECONDS", 600.0)
        refusals = {"ca_file": str(first.cert), "backoff_max_seconds": 600.0, "resolve": lambda *_: ["127.0.0.1"]}
        strange = make_dispatcher(url, **refusals | {"ca_file": str(second.cert)})
        caplog.set_level(logging.ERROR)
        strange.submit("mark", "9")
        eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text, what="the refusal of an unknown authority")
        other = make_dispatcher(f"https://other-name:{port}", **refusals)
        other.submit("mark", "9")
        eventually(lambda: "other-name" in caplog.text, what="the refusal of another name")
    for refused in (strange, other):
        assert not refused.close(0)
    with socket.create_connection(("127.0.0.1", port), timeout=patient(60)) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200" not in plain.recv(4096), "without TLS there is no answer"

    install(second, "two")
    with ca.open("ab") as file:
        file.write(second.cert.read_bytes())
    os.utime(ca, (1, 1))
    eventually(lambda: renewed(port, second.cert, before), what="the renewed certificate")
    dispatcher.submit("mark", "2")
    late = make_dispatcher(url, ca_file=str(ca), resolve=lambda *_: ["127.0.0.1"])
    late.submit("mark", "3")
    assert dispatcher.flush(patient(120))
    assert late.flush(patient(120))
    assert sorted(server.traces()) == ["1", "2", "3"]


def renewed(port: int, ca: Path, before: int) -> bool:
    try:
        return presented(port, ca) != before
    except ssl.SSLError:
        return False


def test_a_ca_file_that_cannot_be_used_is_refused_by_its_setting(tmp_path: Path) -> None:
    no_certificate = tmp_path / "ca.crt"
    no_certificate.write_text("nothing")
    for url, file in (("https://host", no_certificate), ("https://host", tmp_path / "none"), ("http://host", __file__)):
        with pytest.raises(ConfigurationError, match="SPOKE_TASKS_CA_FILE"):
            TaskDispatcher(url, KEY, options=DispatcherOptions(ca_file=str(file)))
