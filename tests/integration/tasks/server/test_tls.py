"""Tasks over TLS: a real server with a certificate that is renewed, and dispatchers that verify it."""

from __future__ import annotations

import logging
import shutil
import socket
from pathlib import Path

import pytest
from tests.integration.tasks.conftest import MakeDispatcher, StartServer
from tests.integration.tasks.support.certificates import Authority
from tests.integration.tasks.support.servers import KEY
from tests.waiting import eventually, patient

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.tasks.client import replicas, trust
from spoke_jobs.tasks.client.dispatcher import DispatcherOptions, TaskDispatcher


def test_tasks_are_sent_over_verified_tls_and_a_dispatcher_follows_a_renewal(
    start_server: StartServer,
    make_dispatcher: MakeDispatcher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(trust, "LOOK_EVERY_SECONDS", 0.1)
    first, second = Authority(tmp_path, "first-ca"), Authority(tmp_path, "second-ca")
    signed, ca = first.sign("one"), tmp_path / "ca.crt"
    shutil.copy(first.cert, ca)
    server = start_server(tls_cert_file=signed.cert, tls_key_file=signed.key)
    port = server.port
    url = f"https://localhost:{port}"
    dispatcher = make_dispatcher(url, ca_file=str(ca), resolve=lambda *_: ["127.0.0.1"])
    dispatcher.submit("mark", "1")
    assert dispatcher.flush(patient(120))

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

    server.kill()
    with ca.open("ab") as file:
        file.write(second.cert.read_bytes())
    signed = second.sign("two")
    renewed = start_server("renewed", port=server.port, tls_cert_file=signed.cert, tls_key_file=signed.key)
    dispatcher.submit("mark", "2")
    late = make_dispatcher(url, ca_file=str(ca), resolve=lambda *_: ["127.0.0.1"])
    late.submit("mark", "3")
    assert dispatcher.flush(patient(120))
    assert late.flush(patient(120))
    assert (server.traces(), sorted(renewed.traces())) == (["1"], ["2", "3"])


def test_a_ca_file_that_cannot_be_used_is_refused_by_its_setting(tmp_path: Path) -> None:
    no_certificate = tmp_path / "ca.crt"
    no_certificate.write_text("nothing")
    for url, file in (("https://host", no_certificate), ("https://host", tmp_path / "none"), ("http://host", __file__)):
        with pytest.raises(ConfigurationError, match="SPOKE_TASKS_CA_FILE"):
            TaskDispatcher(url, KEY, options=DispatcherOptions(ca_file=str(file)))
