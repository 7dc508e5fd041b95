"""Wait until sockets and pipes can be read, in a process with any number of open files.

`select.select()` fails from file descriptor 1,024 on: a server with many connections has such ones.
"""

from __future__ import annotations

import select
from collections.abc import Collection
from typing import Protocol, TypeVar

_LONGEST_SECONDS = 86_400.0
"""The longest wait of one call. The system takes milliseconds up to 24 days."""


class HasNumber(Protocol):
    """A socket, a pipe or another open file."""

    def fileno(self) -> int:
        """Return its file descriptor."""
        ...


F = TypeVar("F", bound=HasNumber)


def readable_of(files: Collection[F], seconds: float | None = None) -> list[F]:
    """Wait until some of the files can be read without waiting, or have been closed by the other side. Return these.

    :param seconds: the longest wait, of at most a day; None: wait until one can be read.
    """
    by_number = {file.fileno(): file for file in files}
    poll = select.poll()
    for number in by_number:
        poll.register(number, select.POLLIN)
    found = poll.poll(None if seconds is None else min(max(seconds, 0.0), _LONGEST_SECONDS) * 1000)
    return [by_number[number] for number, _ in found]
