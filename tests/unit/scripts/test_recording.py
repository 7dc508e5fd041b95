"""Pictures of commands in a terminal: what is recorded, which frames are kept of it, and what a browser shows."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts.recording.__main__ import main
from scripts.recording.frames import Frame, Pace, frames
from scripts.recording.screen import Chunk, Row, Screen, Size, Span, Style, screens, text_of
from scripts.recording.svg import draw
from scripts.recording.terminal import TookTooLongError, record

SIZE = Size(20, 3)
SVG = "{http://www.w3.org/2000/svg}"


def row(text: str) -> Row:
    return (Span(0, len(text), text),) if text else ()


class TestTerminal:
    """Commands in a real pseudo-terminal."""

    def test_one_that_does_not_end_is_ended(self) -> None:
        with pytest.raises(TookTooLongError, match=r"it has not ended within 1 s"):
            record(["sleep", "600"], SIZE, 1)

    @pytest.mark.parametrize(
        ("script", "code", "said"),
        [
            ("printf 'a <b>\\n'; sleep 0.3; printf 'c'", 0, "2 frames"),
            ("echo no database; exit 4", 1, "ended with exit code 4:\nno database\n"),
        ],
    )
    def test_a_picture_is_written_unless_the_command_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        script: str, code: int, said: str,
    ) -> None:  # fmt: skip
        picture = tmp_path / "new" / "picture.svg"
        options = ["--output", str(picture), "--title", "t", "--columns", "50", "--rows", "5"]
        monkeypatch.setattr(sys, "argv", ["record", *options, "--", "bash", "-c", script])
        assert main() == code
        assert said in capsys.readouterr().err
        assert picture.exists() is (code == 0)
        if code == 0:
            assert "a <b>" in "".join(ElementTree.parse(picture).getroot().itertext())


class TestScreens:
    """What is seen of what a program writes."""

    def test_text_stands_where_it_was_written_in_the_look_that_it_was_given(self) -> None:
        written = "\x1b[1mjob\x1b[0m  \x1b[31mno\x1b[0m \x1b[2mdim\r\x1b[1B\x1b[0m  a\x1b[7m  \x1b[0m  "
        assert screens([Chunk(0.0, written.encode())], SIZE)[-1].rows[:2] == (
            (
                Span(0, 3, "job", Style(bold=True)),
                Span(5, 2, "no", Style(foreground="red")),
                Span(8, 3, "dim", Style(dim=True)),
            ),
            (Span(2, 1, "a"), Span(3, 2, "  ", Style(reverse=True))),
        )

    def test_the_screens_follow_one_another_from_the_first_that_shows_something(self) -> None:
        seen = screens([Chunk(0.1, b"\x1b[?25l"), Chunk(1.0, b"a"), Chunk(2.0, b"\x07"), Chunk(3.0, b"b")], SIZE)
        assert [(screen.at, text_of(screen.rows)) for screen in seen] == [(1.0, ["a"]), (3.0, ["ab"])]

    def test_a_screen_that_is_still_being_drawn_is_not_seen(self) -> None:
        seen = screens([Chunk(0.0, b"one"), Chunk(1.0, b"\x1b[2J"), Chunk(1.001, b"\rtwo"), Chunk(2.0, b"!")], SIZE)
        assert [text_of(screen.rows) for screen in seen] == [["one"], ["two"], ["two!"]]

    @given(st.binary(max_size=200))
    def test_any_bytes_at_all_make_a_screen(self, data: bytes) -> None:
        for screen in screens([Chunk(0.0, data)], SIZE):
            assert len(screen.rows) == SIZE.rows


SCREENS = st.lists(st.tuples(st.floats(0.001, 3), st.sampled_from("abc")), min_size=1, max_size=60).map(
    lambda steps: [
        Screen(sum(gap for gap, _ in steps[: number + 1]), (row(text),)) for number, (_, text) in enumerate(steps)
    ]
)


@given(SCREENS, st.integers(1, 10))
def test_however_many_screens_there_are_few_frames_and_the_last_is_the_last(seen: list[Screen], most: int) -> None:
    shown = frames(seen, Pace(every=0.1, longest=2.0, hold=5.0, frames=most))
    assert 1 <= len(shown) <= most
    assert shown[-1] == Frame(seen[-1].rows, 5.0)
    assert all(0 < frame.seconds <= 2.0 for frame in shown[:-1])


@given(st.text(min_size=1, max_size=20).filter(str.strip), st.text(max_size=10))
def test_any_text_is_well_formed_and_stays_text(text: str, title: str) -> None:
    allowed = re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
    picture = draw([Frame((row(text),), 1.0)], 40, title)
    assert not re.search(r"<script|<image|url\(|@import|@font-face|http(?!://www\.w3\.org/2000/svg)", picture)
    found = ElementTree.fromstring(picture).find(f"{SVG}g/{SVG}g/{SVG}text")
    assert found is not None
    assert "".join(found.itertext()) == allowed.replace("\r\n", "\n").replace("\r", "\n")
