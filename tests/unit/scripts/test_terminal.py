"""Commands in a real pseudo-terminal."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scripts.recording.__main__ import main
from scripts.recording.screen import Size, screens, text_of
from scripts.recording.terminal import TookTooLongError, record

SIZE = Size(50, 5)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def lines(code: str) -> list[str]:
    return text_of(screens(record(python(code), SIZE, 30).chunks, SIZE)[-1].rows)


def test_the_command_finds_a_terminal_of_that_size_with_colours() -> None:
    asks = "import os, sys; print(sys.stdout.isatty(), *os.get_terminal_size(), os.environ['TERM'])"
    assert lines(asks) == ["True 50 5 xterm-256color"]


def test_all_that_it_writes_is_there_in_order_with_its_time() -> None:
    recording = record(python("import time; print('one'); time.sleep(0.3); print('x' * 49 * 4000, end='')"), SIZE, 30)
    written = b"".join(chunk.data for chunk in recording.chunks)
    assert written == b"one\r\n" + b"x" * 49 * 4000
    assert recording.chunks[-1].at - recording.chunks[0].at > 0.25


def test_how_it_ended_is_told() -> None:
    assert record(python("raise SystemExit(3)"), SIZE, 30).exit_code == 3


def test_what_it_left_in_the_background_is_ended_and_not_waited_for() -> None:
    begin = time.monotonic()
    recording = record(["bash", "-c", "sleep 600 & echo $!"], SIZE, 60)
    assert time.monotonic() - begin < 30
    assert ended(int(recording.chunks[0].data))


def test_one_that_does_not_end_is_ended() -> None:
    with pytest.raises(TookTooLongError, match=r"it has not ended within 1 s"):
        record(["sleep", "600"], SIZE, 1)


def ended(pid: int) -> bool:
    """Whether nothing of a killed process is left but what its parent has to collect."""
    while Path(f"/proc/{pid}").exists():
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return True


def test_a_picture_is_written_of_what_was_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "new" / "picture.svg"
    assert run(monkeypatch, picture, "printf 'a <b>\\n'; sleep 0.3; printf 'c'") == 0
    root = ElementTree.parse(picture).getroot()
    assert "a <b>" in "".join(root.itertext())
    assert "2 frames" in capsys.readouterr().err


def test_of_a_command_that_fails_there_is_none_but_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "picture.svg"
    assert run(monkeypatch, picture, "echo no database; exit 4") == 1
    assert not picture.exists()
    assert capsys.readouterr().err.endswith("ended with exit code 4:\nno database\n")


def run(monkeypatch: pytest.MonkeyPatch, picture: Path, script: str) -> int:
    arguments = ["--output", str(picture), "--title", "t", "--columns", "50", "--rows", "5", "--", "bash", "-c", script]
    monkeypatch.setattr(sys, "argv", ["record", *arguments])
    return main()
