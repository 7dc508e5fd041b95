"""What is seen of what a program writes."""

from __future__ import annotations

import pyte
from hypothesis import given
from hypothesis import strategies as st
from scripts.recording.screen import Chunk, Size, Span, Style, row_of, screens, text_of

SIZE = Size(20, 3)


def rows(*written: str, size: Size = SIZE) -> tuple[tuple[Span, ...], ...]:
    """The last screen of what was written, a second apart."""
    return screens([Chunk(float(at), part.encode()) for at, part in enumerate(written)], size)[-1].rows


def test_text_stands_where_it_was_written_in_the_look_that_it_was_given() -> None:
    written = "\x1b[1mjob 12\x1b[0m  \x1b[31mfailed\x1b[0m"
    assert rows(written)[0] == (
        Span(0, 6, "job 12", Style(bold=True)),
        Span(8, 6, "failed", Style(foreground="red")),
    )


def test_dim_is_known_and_ends_where_it_is_ended() -> None:
    assert rows("\x1b[2mdim\x1b[22mnot\x1b[1;2mboth\x1b[22mnot")[0] == (
        Span(0, 3, "dim", Style(dim=True)),
        Span(3, 3, "not"),
        Span(6, 4, "both", Style(bold=True, dim=True)),
        Span(10, 3, "not"),
    )


def test_the_numbers_of_a_colour_are_no_looks_of_their_own() -> None:
    written = "\x1b[38;5;2mgreen\x1b[38;2;2;22;5mrgb\x1b[0;48;5;22mback"
    assert rows(written)[0] == (
        Span(0, 5, "green", Style(foreground="#00cd00")),
        Span(5, 3, "rgb", Style(foreground="#021605")),
        Span(8, 4, "back", Style(background="#005f00")),
    )


def test_yellow_is_called_so() -> None:
    assert [span.style.foreground for span in rows("\x1b[33ma\x1b[93mb")[0]] == ["yellow", "brightyellow"]


def test_a_wide_character_takes_two_cells() -> None:
    assert rows("日本 x")[0] == (Span(0, 6, "日本 x"),)


def test_blanks_are_kept_where_they_can_be_seen() -> None:
    written = "  a\x1b[7m  \x1b[0m  "
    assert rows(written)[0] == (Span(2, 1, "a"), Span(3, 2, "  ", Style(reverse=True)))


def test_what_is_written_over_is_gone() -> None:
    assert text_of(rows("10 %", "\r\x1b[2K20 %\nnext")) == ["20 %", "    next"]


def test_the_screens_follow_one_another_from_the_first_that_shows_something() -> None:
    seen = screens([Chunk(0.1, b"\x1b[?25l"), Chunk(1.0, b"a"), Chunk(2.0, b"\x07"), Chunk(3.0, b"b")], SIZE)
    assert [(screen.at, text_of(screen.rows)) for screen in seen] == [(1.0, ["a"]), (3.0, ["ab"])]


def test_a_screen_that_is_still_being_drawn_is_not_seen() -> None:
    seen = screens([Chunk(0.0, b"one"), Chunk(1.0, b"\x1b[2J"), Chunk(1.001, b"\rtwo"), Chunk(2.0, b"!")], SIZE)
    assert [text_of(screen.rows) for screen in seen] == [["one"], ["two"], ["two!"]]


def test_a_program_that_never_pauses_is_seen_all_the_same() -> None:
    chunks = [Chunk(at / 100, f"\r{at}".encode()) for at in range(300)]
    assert 4 <= len(screens(chunks, SIZE)) <= 10


def test_a_character_that_was_cut_in_two_is_whole() -> None:
    seen = screens([Chunk(0.0, "→".encode()[:1]), Chunk(1.0, "→".encode()[1:])], SIZE)
    assert text_of(seen[-1].rows) == ["→"]


CELL = st.builds(
    pyte.screens.Char,
    st.sampled_from(" ab"),
    st.sampled_from(["default", "red"]),
    st.sampled_from(["default", "00ff00"]),
    bold=st.booleans(),
    reverse=st.booleans(),
)


@given(st.lists(CELL, max_size=12))
def test_spans_show_each_cell_that_can_be_seen_once_and_as_it_was(cells: list[pyte.screens.Char]) -> None:
    shown = {}
    for span in row_of(cells):
        assert span.cells == len(span.text)
        for offset, character in enumerate(span.text):
            assert span.column + offset not in shown
            shown[span.column + offset] = (character, span.style)
    for column, cell in enumerate(cells):
        seen = shown.get(column)
        if cell.data == " " and cell.bg == "default" and not cell.reverse:
            assert seen is None or (seen[0] == " " and not seen[1].background and not seen[1].reverse)
        else:
            assert seen is not None
            character, style = seen
            assert (character, style.background, style.reverse) == (
                cell.data,
                None if cell.bg == "default" else f"#{cell.bg}",
                cell.reverse,
            )
            if cell.data != " " or cell.reverse:
                assert (style.foreground, style.bold) == (None if cell.fg == "default" else cell.fg, cell.bold)


@given(st.binary(max_size=200))
def test_any_bytes_at_all_make_a_screen(data: bytes) -> None:
    for screen in screens([Chunk(0.0, data)], SIZE):
        assert len(screen.rows) == SIZE.rows
