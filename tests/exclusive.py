"""What the tests of several processes share, and only one of them may use at a time."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(what: str) -> Iterator[None]:
    """Nobody else on this machine is within it for the same thing; the lock goes when its holder dies."""
    with (Path(tempfile.gettempdir()) / f"spoke-jobs-tests-{what}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
