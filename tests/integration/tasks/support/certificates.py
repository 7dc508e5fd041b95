"""Certificates made by openssl: an authority, and what it signs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import patient


@dataclass(frozen=True)
class Signed:
    """A certificate with its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates into a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self.cert, self._key = folder / f"{name}.crt", folder / f"{name}.key"
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.cert, "-subj", f"/CN={name}",
                 "-days", "2", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip

    def sign(self, name: str, host: str = "localhost", address: str = "") -> Signed:
        """Make a certificate for a host, and for an IP address."""
        names = f"DNS:{host}" + (f",IP:{address}" if address else "")
        signed = Signed(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", signed.key, "-out", signed.cert, "-subj", f"/CN={name}",
                 "-days", "1", "-CA", self.cert, "-CAkey", self._key, "-addext", f"subjectAltName={names}",
                 "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip
        return signed


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=patient(60))
