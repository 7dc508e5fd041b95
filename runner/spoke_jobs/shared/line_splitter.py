"""Split a stream of chunks into lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class LineSplitter:
    """Splits chunks into lines. It copies each byte only once or twice, however long a line is."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []
        self.begun_bytes = 0
        """The length of what follows the last complete line."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that ``chunk`` completes, without their ends."""
        first, *more = chunk.split(b"\n")
        self._begun.append(first)
        if not more:
            self.begun_bytes += len(first)
            return []
        lines = [b"".join(self._begun), *more[:-1]]
        self._begun, self.begun_bytes = [more[-1]], len(more[-1])
        return lines

    def rest(self) -> bytes:
        """Return what follows the last complete line."""
        return b"".join(self._begun)


def complete_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the complete lines of a stream, each as soon as its end is read."""
    splitter = LineSplitter()
    for chunk in chunks:
        yield from splitter.feed(chunk)


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream, and at its end what follows the last complete line, unless that is empty."""
    splitter = LineSplitter()
    for chunk in chunks:
        yield from splitter.feed(chunk)
    if rest := splitter.rest():
        yield rest
