"""The picture: what a browser would make of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from scripts.recording.frames import Frame
from scripts.recording.screen import Row, Span, Style
from scripts.recording.svg import ROW_HEIGHT, draw

SVG = "{http://www.w3.org/2000/svg}"


def row(text: str) -> Row:
    return (Span(0, len(text), text),) if text else ()


def film(*screens: str, seconds: float = 1.0) -> list[Frame]:
    """Frames from their lines."""
    height = max(screen.count("\n") + 1 for screen in screens)
    lines = [screen.split("\n") + [""] * (height - 1 - screen.count("\n")) for screen in screens]
    return [Frame(tuple(map(row, texts)), seconds) for texts in lines]


class Picture:
    """A picture that can be asked what it shows at a moment, by the rules of CSS that it uses."""

    def __init__(self, frames: list[Frame], title: str = "title") -> None:
        self.text = draw(frames, 40, title)
        self.root = ElementTree.fromstring(self.text)
        self._style = self.root.findtext(f"{SVG}style") or ""
        self._shared = {group.get("id"): group for group in self.root.iterfind(f"{SVG}defs/{SVG}g")}
        played = re.search(r"animation:([0-9.]+)s step-end infinite", self._style)
        self.seconds = float(played[1]) if played else None

    def at(self, moment: float | None) -> list[str]:
        """The lines at that second; None where nothing moves."""
        lines = {
            y: text
            for layer in self.root.iterfind(f"{SVG}g/{SVG}g")
            if self._seen(layer, moment)
            for y, text in self._lines(layer)
        }
        return [lines.get(y, "") for y in range(max(lines, default=-1) + 1)]

    def _seen(self, layer: ElementTree.Element, moment: float | None) -> bool:
        name = re.search(r"animation-name:(\w+)", layer.get("style", ""))
        if moment is None or name is None:
            return "h" not in layer.get("class", "").split()
        keyframes = re.search(rf"@keyframes {name[1]}{{(.*?}})}}", self._style)
        assert keyframes
        assert self.seconds
        steps = re.findall(r"([0-9.]+)%{visibility:(\w+)}", keyframes[1])
        return [seen for percent, seen in steps if float(percent) <= 100 * moment / self.seconds][-1] == "visible"

    def _lines(self, layer: ElementTree.Element) -> Iterator[tuple[int, str]]:
        for element in layer:
            if element.tag == f"{SVG}use":
                shared = self._shared[element.get("href", "")[1:]]
                yield int(element.get("y", "")) // ROW_HEIGHT, "".join(shared.itertext())
            elif element.tag == f"{SVG}text":
                yield int(float(element.get("y", "")) // ROW_HEIGHT), "".join(element.itertext())


def test_each_frame_is_shown_for_its_time_and_then_it_begins_anew() -> None:
    picture = Picture(film("$ run", "$ run\n50 %", "$ run\n100 %\ndone"))
    assert picture.seconds == 3.0
    assert picture.at(0.5) == ["$ run"]
    assert picture.at(1.5) == ["$ run", "50 %"]
    assert picture.at(2.5) == ["$ run", "100 %", "done"]
    assert "infinite" in picture.text


LINES = st.lists(st.sampled_from(["", "a", "b", "<c>"]), min_size=3, max_size=3).map("\n".join)


@given(st.lists(LINES, min_size=1, max_size=6))
def test_at_every_moment_it_shows_the_frame_of_that_moment_and_nothing_else(screens: list[str]) -> None:
    picture = Picture(film(*screens))
    for number, screen in enumerate(screens):
        shown = picture.at(number + 0.5 if picture.seconds else None)
        assert "\n".join(shown) == screen.rstrip("\n")


def test_without_motion_it_shows_the_last_frame() -> None:
    picture = Picture(film("first\nboth", "last\nboth"))
    assert picture.at(None) == ["last", "both"]
    assert "@media(prefers-reduced-motion:reduce){.m{animation:none!important}}" in picture.text


def test_what_never_changes_does_not_move() -> None:
    assert "animation" not in Picture(film("still")).text


def test_a_row_that_is_seen_in_several_places_is_drawn_once() -> None:
    picture = Picture(film("a\nlong line", "long line\nb"))
    assert picture.text.count("long line") == 1
    assert picture.at(0.5) == ["a", "long line"]
    assert picture.at(1.5) == ["long line", "b"]


def test_it_is_as_high_as_what_is_shown() -> None:
    assert int(Picture(film("1\n2\n3")).root.get("height", "")) - int(
        Picture(film("1\n\n\n\n")).root.get("height", "")
    ) == (2 * ROW_HEIGHT)


def test_colour_weight_and_place_are_kept() -> None:
    spans = (
        Span(2, 3, "red", Style(foreground="red", bold=True)),
        Span(5, 3, "own", Style(foreground="#123456", dim=True)),
        Span(9, 4, "back", Style(foreground="green", reverse=True)),
    )
    picture = Picture([Frame((spans,), 1.0)])
    red, own, back = picture.root.findall(f"{SVG}g/{SVG}g/{SVG}text")
    assert (red.get("class"), red.get("x"), red.get("textLength")) == ("b red", "16.8", "25.2")
    assert ".red{fill:#" in picture.text
    assert (own.get("class"), own.get("style")) == ("d", "fill:#123456")
    behind = picture.root.find(f"{SVG}g/{SVG}g/{SVG}rect")
    assert behind is not None
    assert (behind.get("x"), behind.get("width")) == ("75.6", "33.6")
    assert behind.get("fill") != back.get("style", "").removeprefix("fill:")


def test_it_needs_nothing_from_elsewhere_and_runs_no_script() -> None:
    picture = Picture(film("a", "b"))
    assert not [element.tag for element in picture.root.iter() if element.tag in (f"{SVG}script", f"{SVG}image")]
    assert not re.search(r"url\(|@import|@font-face|http(?!://www\.w3\.org/2000/svg)", picture.text)


@given(st.text(min_size=1, max_size=20).filter(str.strip), st.text(max_size=10))
def test_any_text_is_well_formed_and_stays_text(text: str, title: str) -> None:
    allowed = re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
    picture = Picture([Frame((row(text),), 1.0)], title)
    found = picture.root.find(f"{SVG}g/{SVG}g/{SVG}text")
    assert found is not None
    assert "".join(found.itertext()) == allowed.replace("\r\n", "\n").replace("\r", "\n")
