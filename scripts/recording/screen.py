"""Compute the screens that a terminal showed, one for each pause in its output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyte

_STILL_SECONDS = 0.03
"""A screen is complete if no output follows for this long. Before that, a part of it may be missing."""
_BUSY_SECONDS = 0.5
"""While the output never pauses, a screen is taken at this interval."""
_COLOR_NAMES = {"brown": "yellow", "brightbrown": "brightyellow", "bfightmagenta": "brightmagenta"}
"""Our names for the colors that pyte names differently."""


@dataclass(frozen=True, slots=True)
class Size:
    """A terminal's size in cells."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Output, and its time in seconds since the start."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Style:
    """The style of a cell. Colors are ANSI names or ``#rrggbb``; None is the terminal's default."""

    foreground: str | None = None
    background: str | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underlined: bool = False
    reverse: bool = False


PLAIN = Style()


@dataclass(frozen=True, slots=True)
class Span:
    """Adjacent cells of one style: the first column, their number, and their text."""

    column: int
    cells: int
    text: str
    style: Style = PLAIN


Row = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Screen:
    """A whole screen, and the time at which it appeared."""

    at: float
    rows: tuple[Row, ...]


def screens(chunks: Sequence[Chunk], size: Size) -> tuple[Screen, ...]:
    """Compute the screens in order. Each differs from the one before, and the first is not empty."""
    terminal = _Terminal(size.columns, size.rows)
    stream = pyte.ByteStream(terminal)
    seen: list[Screen] = []
    empty: tuple[Row, ...] = ((),) * size.rows
    for chunk, pauses in _with_pauses(chunks):
        stream.feed(chunk.data)
        if pauses:
            rows = tuple(row_of([terminal.buffer[y][x] for x in range(size.columns)]) for y in range(size.rows))
            if rows != (seen[-1].rows if seen else empty):
                seen.append(Screen(chunk.at, rows))
    return tuple(seen)


def _with_pauses(chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, bool]]:
    """Yield each chunk, and whether to take the screen after it."""
    since: float | None = None  # the time of the first chunk since the last screen was taken
    for index, chunk in enumerate(chunks):
        since = chunk.at if since is None else since
        last = index + 1 == len(chunks)
        pauses = last or chunks[index + 1].at - chunk.at >= _STILL_SECONDS or chunk.at - since >= _BUSY_SECONDS
        since = None if pauses else since
        yield chunk, pauses


class _Terminal(pyte.Screen):
    """Show dim text as blinking: pyte does not support dim, and the recorded programs never blink."""

    def select_graphic_rendition(self, *attrs: int, **_: object) -> None:
        translated: list[int] = []
        rest = list(attrs)
        while rest:
            code = rest.pop(0)
            if code in (38, 48):  # the numbers that follow are a color
                length = {5: 2, 2: 4}.get(rest[0], 0) if rest else 0
                translated += [code, *rest[:length]]
                del rest[:length]
            else:
                translated += {2: [5], 22: [22, 25]}.get(code, [code])
        super().select_graphic_rendition(*translated)


def row_of(cells: Sequence[pyte.screens.Char]) -> Row:
    """Return a row's spans. Keep blanks between cells of one style, and leave out other invisible blanks."""
    spans: list[Span] = []
    for column, cell in enumerate(cells):
        style = _style(cell)
        before = spans[-1] if spans else None
        joins = before is not None and before.column + before.cells == column
        if before and joins and (style == before.style or _shows_nothing(cell.data, style, before.style)):
            spans[-1] = Span(before.column, before.cells + 1, before.text + cell.data, before.style)
        else:
            spans.append(Span(column, 1, cell.data, style))
    return tuple(trimmed for span in spans if (trimmed := _trimmed(span)))


def _shows_nothing(text: str, style: Style, before: Style) -> bool:
    """Whether a blank looks the same in both styles. (The second cell of a wide character is empty, too.)"""
    return not text.strip(" ") and not any(
        look.background or look.reverse or look.underlined for look in (style, before)
    )


def _trimmed(span: Span) -> Span | None:
    if span.style.background or span.style.reverse or span.style.underlined:
        return span
    text = span.text.lstrip(" ")
    left = len(span.text) - len(text)
    stripped = text.rstrip(" ")
    cells = span.cells - left - (len(text) - len(stripped))
    return Span(span.column + left, cells, stripped, span.style) if stripped else None


def _style(cell: pyte.screens.Char) -> Style:
    return Style(_color(cell.fg), _color(cell.bg), cell.bold, cell.blink, cell.italics, cell.underscore, cell.reverse)


def _color(name: str) -> str | None:
    if name == "default":
        return None
    if len(name) == 6 and all(digit in "0123456789abcdef" for digit in name):
        return f"#{name}"
    return _COLOR_NAMES.get(name, name)


def text_of(rows: Sequence[Row]) -> list[str]:
    """Return the rows as plain text, without blank rows at the end."""
    texts = []
    for row in rows:
        text = ""
        for span in row:
            text = text.ljust(span.column) + span.text
        texts.append(text)
    while texts and not texts[-1]:
        texts.pop()
    return texts
