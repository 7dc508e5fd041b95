"""A stream of log lines, as the API server sends it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spoke_jobs.shared.line_splitter import lines_of


@given(st.lists(st.binary(max_size=5) | st.sampled_from([b"\n", b"a\nb", b"\n\n"]), max_size=10))
def test_the_chunks_of_a_stream_make_no_difference_to_its_lines(chunks: list[bytes]) -> None:
    *lines, rest = b"".join(chunks).split(b"\n")
    assert list(lines_of(chunks)) == [*lines, *([rest] if rest else [])]


class Counted(bytes):
    """A chunk that counts the bytes that are copied to append it."""

    copied = 0

    def __radd__(self, other: bytes) -> Counted:
        Counted.copied += len(other) + len(self)
        return Counted(b"".join((other, self)))


def test_a_line_without_an_end_is_not_copied_again_for_each_chunk() -> None:
    """A job may print megabytes without a newline."""
    Counted.copied = 0
    (line,) = lines_of(Counted(b"x" * 1_000) for _ in range(100))
    assert len(line) == 100_000
    assert Counted.copied <= 2 * len(line)
