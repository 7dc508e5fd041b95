"""Locks between the processes that run tests."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HEAVY = "heavy"
"""The lock for an installation on the cluster or the build of an image: they load the whole machine, so each waits for
the one before. Who holds it takes no other lock."""


@contextmanager
def exclusive(what: str) -> Iterator[None]:
    """Hold this user's lock of that name. It is released when its holder dies, however it dies."""
    with (Path(tempfile.gettempdir()) / f"spoke-jobs-tests-{os.getuid()}-{what}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
