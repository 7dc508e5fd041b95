"""Draw frames as one animated SVG. It uses CSS keyframes, no scripts or fonts, so it also plays as an image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from xml.sax.saxutils import escape, quoteattr

from scripts.recording.frames import Frame, Layer, layers
from scripts.recording.screen import Row, Span, Style

CELL_WIDTH, ROW_HEIGHT = 8.4, 18
_BASELINE, _MARGIN, _BAR = 13.5, 16, 32
_BACKGROUND, _FOREGROUND = "#0d1117", "#d1d7e0"
_PALETTE = {
    "black": "#484f58",
    "red": "#ff7b72",
    "green": "#3fb950",
    "yellow": "#d29922",
    "blue": "#58a6ff",
    "magenta": "#bc8cff",
    "cyan": "#39c5cf",
    "white": "#b1bac4",
    "brightblack": "#7d8590",
    "brightred": "#ffa198",
    "brightgreen": "#56d364",
    "brightyellow": "#e3b341",
    "brightblue": "#79c0ff",
    "brightmagenta": "#d2a8ff",
    "brightcyan": "#56d4dd",
    "brightwhite": "#f0f6fc",
}
_STYLES = (
    "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace;"
    f"fill:{_FOREGROUND};white-space:pre}}"
    ".b{font-weight:bold}.d{opacity:.6}.i{font-style:italic}.u{text-decoration:underline}"
    ".h{visibility:hidden}"
)
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not allow."""


def draw(frames: Sequence[Frame], columns: int, title: str) -> str:
    """Return the picture as XML. A viewer without animation, or with reduced motion, shows the last frame.

    :param frames: at least one. Rows at the bottom that are blank in all frames are left out.
    :param columns: the terminal's width in cells.
    """
    parts = layers(frames)
    used = max((y + 1 for part in parts for y, _ in part.rows), default=1)
    width, height = round(columns * CELL_WIDTH + 2 * _MARGIN), used * ROW_HEIGHT + _BAR + _MARGIN
    uses = Counter(row for part in parts for _, row in part.rows)
    names = {row: f"r{number}" for number, row in enumerate(row for row, count in uses.items() if count > 1)}
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">',
        f"<title>{_text(title)}</title>",
        f"<style>{_styles(parts, frames, uses)}</style>",
        *_window(width, height, title),
        f"<defs>{''.join(_row(row, 0, name) for row, name in names.items())}</defs>",
        f'<g transform="translate({_MARGIN} {_BAR})" xml:space="preserve">',
        *(_layer(number, part, len(frames), names) for number, part in enumerate(parts)),
        "</g>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _window(width: int, height: int, title: str) -> Iterator[str]:
    """Draw a window frame that is visible on a white and on a black page."""
    yield (
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="{_BACKGROUND}" stroke="#6e7681"/>'
    )
    for number in range(3):
        yield f'<circle cx="{_MARGIN + 4 + number * 16}" cy="16" r="5" fill="#484f58"/>'
    yield f'<text x="{width / 2:g}" y="21" text-anchor="middle" class="d">{_text(title)}</text>'


def _styles(parts: Sequence[Layer], frames: Sequence[Frame], rows: Mapping[Row, int]) -> str:
    colors = sorted({color for row in rows for span in row if (color := _visible_colors(span.style)[0]) in _PALETTE})
    named = "".join(f".{color}{{fill:{_PALETTE[color]}}}" for color in colors)
    starts = [*accumulate((frame.seconds for frame in frames), initial=0.0)]
    moving = (
        f".m{{animation:{starts[-1]:.2f}s step-end infinite}}"
        "@media(prefers-reduced-motion:reduce){.m{animation:none!important}}"
    )
    played = "".join(_keyframes(number, part, starts) for number, part in enumerate(parts) if _moves(part, len(frames)))
    return _STYLES + named + (moving + played if played else "")


def _moves(part: Layer, frames: int) -> bool:
    return (part.first, part.end) != (0, frames)


def _keyframes(number: int, part: Layer, starts: Sequence[float]) -> str:
    """Return the layer's visibility over time. Each step holds until the next, so no two frames overlap."""
    steps = {0.0: "hidden", starts[part.first]: "visible"}
    if part.end < len(starts) - 1:
        steps[starts[part.end]] = "hidden"
    moments = "".join(f"{100 * at / starts[-1]:.3f}%{{visibility:{seen}}}" for at, seen in steps.items())
    return f"@keyframes k{number}{{{moments}}}"


def _layer(number: int, part: Layer, frames: int, names: Mapping[Row, str]) -> str:
    inside = "".join(
        f'<use href="#{names[row]}" y="{y * ROW_HEIGHT}"/>' if row in names else _row(row, y) for y, row in part.rows
    )
    if not _moves(part, frames):
        return f"<g>{inside}</g>"
    hidden = "" if part.end == frames else " h"
    return f'<g class="m{hidden}" style="animation-name:k{number}">{inside}</g>'


def _row(row: Row, y: int, name: str = "") -> str:
    top = y * ROW_HEIGHT
    inside = "".join(_background(span, top) for span in row) + "".join(_span_text(span, top) for span in row)
    return f'<g id="{name}">{inside}</g>' if name else inside


def _background(span: Span, top: int) -> str:
    color = _visible_colors(span.style)[1]
    if color is None:
        return ""
    fill = _PALETTE.get(color, color)
    return (
        f'<rect x="{span.column * CELL_WIDTH:g}" y="{top}" width="{span.cells * CELL_WIDTH:g}" '
        f'height="{ROW_HEIGHT}" fill="{fill}"/>'
    )


def _span_text(span: Span, top: int) -> str:
    """Draw a span's text, stretched to the width of its cells in any font."""
    if not span.text.strip(" "):
        return ""
    color, style = _visible_colors(span.style)[0], span.style
    marks = {"b": style.bold, "d": style.dim, "i": style.italic, "u": style.underlined}
    classes = [mark for mark, has in marks.items() if has] + ([color] if color in _PALETTE else [])
    look = f" class={quoteattr(' '.join(classes))}" if classes else ""
    own = f' style="fill:{color}"' if color and color not in _PALETTE else ""
    return (
        f'<text x="{span.column * CELL_WIDTH:g}" y="{top + _BASELINE:g}" textLength="{span.cells * CELL_WIDTH:g}" '
        f'lengthAdjust="spacingAndGlyphs"{look}{own}>{_text(span.text)}</text>'
    )


def _visible_colors(style: Style) -> tuple[str | None, str | None]:
    """Return the visible colors of the text and of its background."""
    if style.reverse:
        return style.background or _BACKGROUND, style.foreground or _FOREGROUND
    return style.foreground, style.background


def _text(text: str) -> str:
    return escape(_ILLEGAL.sub("\ufffd", text))
