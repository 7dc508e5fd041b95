"""A secret in a file, for example of a mounted Kubernetes Secret. A changed file is read without a restart."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

Version = tuple[int, int, int]


def stat_regular(path: str | Path) -> os.stat_result:
    """Return the status of a regular file. To open a named pipe would wait until somebody writes to it.

    :raises OSError: if it is another kind of file, or does not exist.
    """
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return found


def version_of(path: str | Path) -> Version:
    """Return what changes when a regular file is replaced or written.

    :raises OSError: as :func:`stat_regular` does.
    """
    found = stat_regular(path)
    return found.st_mtime_ns, found.st_ino, found.st_size


class SecretFile:
    """A file with one secret. White space around it is ignored.

    :param value: what the file had when it was last read.
    :raises OSError: if no value is given, and the file cannot be read.
    :raises ValueError: likewise if it is empty, or is no text.
    """

    def __init__(self, path: str, value: str = "") -> None:
        self.path = path
        self._version: Version | None = None
        self._value = value
        if not value:
            self._load()

    def read(self) -> str:
        """Return the secret. While the file is absent, unreadable or empty, return the last one.

        The kubelet replaces a mounted file within about a minute after the Secret has changed.
        """
        with suppress(OSError, ValueError):
            self._load()
        return self._value

    def __repr__(self) -> str:
        """Name the file, not the secret."""
        return f"SecretFile({self.path!r})"

    def _load(self) -> None:
        version = version_of(self.path)
        if version == self._version:
            return
        value = Path(self.path).read_text("utf-8").strip()
        self._check(value)
        self._value, self._version = value, version

    def _check(self, value: str) -> None:
        if not value:
            raise ValueError("it is empty")


class TokenFile(SecretFile):
    """A file with a token for a header. One that cannot be sent counts as unreadable."""

    def _check(self, value: str) -> None:
        super()._check(value)
        if not (value.isascii() and value.isprintable()):
            raise ValueError("it can't be sent in a header")


Secret = str | SecretFile
"""A secret that does not change, or the file that has it."""


def value_of(secret: Secret) -> str:
    """Return the secret as it is now."""
    return secret if isinstance(secret, str) else secret.read()
