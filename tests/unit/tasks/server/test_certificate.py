"""The server's certificate: renewed files are used, unusable ones are not, and a half configuration is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.integration.tasks.support.certificates import Authority, Signed

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.tasks.server.certificate import LOOK_EVERY_SECONDS, Certificate, certificate_of


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signed, Signed]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return authority.sign("first"), authority.sign("second")


def copied(signed: Signed, folder: Path) -> tuple[str, str]:
    shutil.copy(signed.cert, folder / "tls.crt")
    shutil.copy(signed.key, folder / "tls.key")
    return str(folder / "tls.crt"), str(folder / "tls.key")


def test_a_renewed_certificate_is_used_and_one_without_its_key_is_not(
    tmp_path: Path, signed: tuple[Signed, Signed], caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    first, second = signed
    certificate = Certificate(*copied(first, tmp_path), clock=lambda: now[0])
    begin = certificate.context()
    now[0] += LOOK_EVERY_SECONDS
    assert certificate.context() is begin, "it has not changed"
    shutil.copy(second.cert, tmp_path / "tls.crt")
    now[0] += LOOK_EVERY_SECONDS
    assert certificate.context() is begin, "the key is not its key yet"
    assert "stays in use" in caplog.text
    shutil.copy(second.key, tmp_path / "tls.key")
    assert certificate.context() is begin, "it has looked just now"
    now[0] += LOOK_EVERY_SECONDS
    renewed = certificate.context()
    assert renewed is not begin
    (tmp_path / "tls.key").unlink()
    now[0] += LOOK_EVERY_SECONDS
    assert certificate.context() is renewed


def test_files_that_cannot_be_used_are_refused_by_their_settings(tmp_path: Path, signed: tuple[Signed, Signed]) -> None:
    cert, key = copied(signed[0], tmp_path)
    for wrong in ((cert, ""), ("", key)):
        with pytest.raises(ConfigurationError, match="set both SPOKE_TASKS_TLS_CERT_FILE and SPOKE_TASKS_TLS_KEY_FILE"):
            certificate_of(*wrong)
    for wrong in ((cert, cert), (key, key), (cert, str(signed[1].key)), (str(tmp_path / "none"), key)):
        with pytest.raises(ConfigurationError, match="SPOKE_TASKS_TLS_CERT_FILE"):
            certificate_of(*wrong)
    assert certificate_of("", "") is None
