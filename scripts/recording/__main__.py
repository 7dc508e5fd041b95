"""``scripts/record``: run a command in a terminal, and write its screens as an animated SVG."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scripts.recording.frames import Pace, frames
from scripts.recording.screen import Size, screens, text_of
from scripts.recording.svg import draw
from scripts.recording.terminal import TookTooLongError, record


def main() -> int:
    """Write the picture and return 0. If the command fails or takes too long, write nothing and return 1."""
    options = _options()
    size = Size(options.columns, options.rows)
    try:
        recording = record(options.command, size, options.timeout)
    except (TookTooLongError, FileNotFoundError) as error:
        return _wrong(f"{' '.join(options.command)}: {error}")
    seen = screens(recording.chunks, size)
    if recording.exit_code or not seen:
        output = "\n".join(text_of(seen[-1].rows)) if seen else "it showed nothing"
        return _wrong(f"{' '.join(options.command)} ended with exit code {recording.exit_code}:\n{output}")
    shown = frames(seen, Pace(options.every, options.longest, options.hold, options.frames))
    picture = draw(shown, size.columns, options.title)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(picture, encoding="utf-8")
    seconds = sum(frame.seconds for frame in shown)
    sys.stderr.write(f"{options.output}: {len(shown)} frames, {seconds:.0f} s, {len(picture.encode()) / 1000:.0f} kB\n")
    return 0


def _wrong(what: str) -> int:
    sys.stderr.write(f"record: {what}\n")
    return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="record", description="Record a command in a terminal as an animated SVG.")
    parser.add_argument("--output", type=Path, required=True, help="the picture's file")
    parser.add_argument("--title", required=True, help="the title in the window's frame")
    parser.add_argument("--columns", type=int, default=100, help="the terminal's width")
    parser.add_argument("--rows", type=int, default=24, help="the terminal's height")
    parser.add_argument("--every", type=float, default=0.1, help="the shortest time that a screen is shown, in seconds")
    parser.add_argument("--longest", type=float, default=2.0, help="shorten longer pauses to this many seconds")
    parser.add_argument("--hold", type=float, default=6.0, help="how long the last screen stays, in seconds")
    parser.add_argument("--frames", type=int, default=200, help="the most frames; to stay below, --every is raised")
    parser.add_argument("--timeout", type=float, default=300.0, help="how long the command may take, in seconds")
    parser.add_argument("command", nargs="+", help="the command, after --")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
