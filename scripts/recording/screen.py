"""What a terminal shows of what was written to it, whenever the writing paused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyte

_STILL_SECONDS = 0.03
"""So long after the last byte a screen counts as drawn; before, half of it may be missing."""
_BUSY_SECONDS = 0.5
"""So often the screen is looked at while the writing never pauses."""
_COLOURS = {"brown": "yellow", "brightbrown": "brightyellow", "bfightmagenta": "brightmagenta"}
"""pyte's names, where they are its own."""


@dataclass(frozen=True, slots=True)
class Size:
    """A terminal's, in cells."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes, and how many seconds after the beginning they came."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Style:
    """How a cell looks; colours by their ANSI name or as ``#rrggbb``, None for the terminal's own."""

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
    """Cells of one look: where they begin, how many they are, and their text."""

    column: int
    cells: int
    text: str
    style: Style = PLAIN


Row = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Screen:
    """A whole screen, and since when it was seen."""

    at: float
    rows: tuple[Row, ...]


def screens(chunks: Sequence[Chunk], size: Size) -> tuple[Screen, ...]:
    """The screens as they followed one another, each different from the one before, the first not empty."""
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
    """Each chunk, and whether the screen may be looked at after it."""
    since: float | None = None  # the first that has not been looked at
    for index, chunk in enumerate(chunks):
        since = chunk.at if since is None else since
        last = index + 1 == len(chunks)
        pauses = last or chunks[index + 1].at - chunk.at >= _STILL_SECONDS or chunk.at - since >= _BUSY_SECONDS
        since = None if pauses else since
        yield chunk, pauses


class _Terminal(pyte.Screen):
    """pyte knows no dim. Blinking, which nothing here does, lends its place."""

    def select_graphic_rendition(self, *attrs: int, **_: object) -> None:
        translated: list[int] = []
        rest = list(attrs)
        while rest:
            code = rest.pop(0)
            if code in (38, 48):  # the numbers that follow are a colour
                length = {5: 2, 2: 4}.get(rest[0], 0) if rest else 0
                translated += [code, *rest[:length]]
                del rest[:length]
            else:
                translated += {2: [5], 22: [22, 25]}.get(code, [code])
        super().select_graphic_rendition(*translated)


def row_of(cells: Sequence[pyte.screens.Char]) -> Row:
    """A row's spans. Blanks between cells of one look belong to them; others that show nothing are left out."""
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
    """A blank looks the same in both styles. (A wide character's second half is empty, and looks like its first.)"""
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
    return Style(_colour(cell.fg), _colour(cell.bg), cell.bold, cell.blink, cell.italics, cell.underscore, cell.reverse)


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    if len(name) == 6 and all(digit in "0123456789abcdef" for digit in name):
        return f"#{name}"
    return _COLOURS.get(name, name)


def text_of(rows: Sequence[Row]) -> list[str]:
    """The rows as plain text, the blank ones at the end left out."""
    texts = []
    for row in rows:
        text = ""
        for span in row:
            text = text.ljust(span.column) + span.text
        texts.append(text)
    while texts and not texts[-1]:
        texts.pop()
    return texts
