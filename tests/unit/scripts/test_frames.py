"""How long screens are shown, and what stays from one to the next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scripts.recording.frames import Frame, Pace, frames, layers
from scripts.recording.screen import Row, Screen, Span

PACE = Pace(every=0.1, longest=2.0, hold=5.0, frames=50)


def row(text: str) -> Row:
    return (Span(0, len(text), text),) if text else ()


def screen(at: float, *texts: str) -> Screen:
    return Screen(at, tuple(map(row, texts)))


def test_a_frame_lasts_until_the_next_a_long_one_is_cut_and_the_last_one_stays() -> None:
    shown = frames([screen(1.0, "a"), screen(1.5, "b"), screen(60.0, "c")], PACE)
    assert [(frame.rows[0], frame.seconds) for frame in shown] == [(row("a"), 0.5), (row("b"), 2.0), (row("c"), 5.0)]


def test_of_screens_that_follow_too_quickly_the_last_is_shown() -> None:
    shown = frames([screen(0.0, "a"), screen(0.05, "b"), screen(0.09, "c"), screen(0.2, "d")], PACE)
    assert [(frame.rows[0], round(frame.seconds, 3)) for frame in shown] == [(row("c"), 0.2), (row("d"), 5.0)]


SCREENS = st.lists(st.tuples(st.floats(0.001, 3), st.sampled_from("abc")), min_size=1, max_size=60).map(
    lambda steps: [screen(sum(gap for gap, _ in steps[: number + 1]), text) for number, (_, text) in enumerate(steps)]
)


@given(SCREENS, st.integers(1, 10))
def test_however_many_screens_there_are_few_frames_and_the_last_is_the_last(seen: list[Screen], most: int) -> None:
    shown = frames(seen, Pace(every=0.1, longest=2.0, hold=5.0, frames=most))
    assert 1 <= len(shown) <= most
    assert shown[-1] == Frame(seen[-1].rows, 5.0)
    assert all(0 < frame.seconds <= 2.0 for frame in shown[:-1])


def test_a_row_that_stays_is_there_once() -> None:
    film = [Frame((row("title"), row("1")), 1), Frame((row("title"), row("2")), 1), Frame((row("title"), ()), 1)]
    assert {(layer.first, layer.end): layer.rows for layer in layers(film)} == {
        (0, 3): ((0, row("title")),),
        (0, 1): ((1, row("1")),),
        (1, 2): ((1, row("2")),),
    }


FILMS = st.integers(0, 4).flatmap(
    lambda height: st.lists(
        st.lists(st.sampled_from(["", "a", "b"]), min_size=height, max_size=height).map(
            lambda texts: Frame(tuple(map(row, texts)), 1.0)
        ),
        min_size=1,
        max_size=8,
    )
)


@given(FILMS)
def test_the_layers_of_a_moment_are_that_frame(film: list[Frame]) -> None:
    for moment, frame in enumerate(film):
        seen = [pair for layer in layers(film) if layer.first <= moment < layer.end for pair in layer.rows]
        assert sorted(seen) == [(y, content) for y, content in enumerate(frame.rows) if content]
