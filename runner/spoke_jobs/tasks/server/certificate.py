"""The task server's certificate. New connections use a renewed one without a restart."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable

from spoke_jobs.errors import ConfigurationError
from spoke_jobs.shared.secret_file import Version, version_of

LOOK_EVERY_SECONDS = 10.0
"""How often the files are checked. The kubelet updates a mounted Secret within about a minute."""

logger = logging.getLogger(__name__)


class Certificate:
    """A certificate with its chain, and its private key, in PEM files.

    :raises ConfigurationError: if they cannot be used.
    """

    def __init__(self, cert_file: str, key_file: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = (cert_file, key_file)
        self._clock = clock
        self._looked_at = clock()
        try:
            self._versions = self._look()
            self._context = self._read()
        except OSError as error:  # an ssl.SSLError is one
            raise ConfigurationError(
                f"SPOKE_TASKS_TLS_CERT_FILE={cert_file} and SPOKE_TASKS_TLS_KEY_FILE={key_file} can't be used "
                f"({error}): name PEM files with a certificate and with its private key, without a passphrase"
            ) from None

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection. If renewed files cannot be used, the last certificate stays."""
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY_SECONDS:
            self._looked_at = now
            try:
                versions = self._look()
                if versions != self._versions:
                    self._context = self._read()
                    self._versions = versions
                    logger.info("the certificate %s is renewed", self._files[0])
            except OSError as error:
                logger.error("the renewed certificate can't be used; the last one stays in use: %s", error)  # noqa: TRY400
        return self._context

    def _look(self) -> list[Version]:
        return [version_of(file) for file in self._files]

    def _read(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._files, password=lambda: "")  # never ask on a terminal
        return context


def certificate_of(cert_file: str, key_file: str) -> Certificate | None:
    """Return the certificate of the settings; None for plain HTTP.

    :raises ConfigurationError: if only one file is set, or the files cannot be used.
    """
    if not cert_file and not key_file:
        return None
    if not cert_file or not key_file:
        raise ConfigurationError(
            "set both SPOKE_TASKS_TLS_CERT_FILE and SPOKE_TASKS_TLS_KEY_FILE to serve TLS, or none for plain HTTP"
        )
    return Certificate(cert_file, key_file)
