"""Run a page of the documentation as its reader does: in a plain shell that has only what the page itself sets.

A page may have these blocks: `sh install` makes a virtual environment and installs the project, `python file=NAME` is
saved, `sh run` is typed, `text output` is what the block before it prints to a terminal. All of them are one session,
so what a block exports holds in those after it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import patient

ROOT = Path(__file__).parents[3]
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spoke-jobs/docs"
_BLOCK = re.compile(r"^```(?P<language>\w+) ?(?P<kind>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_PUBLISHED = re.compile(r"pip install '?spoke-jobs(\[[\w,]+\])?'?")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")
_MARK = "=== block "
_COLUMNS = 100
_PINNED = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?\s*==\s*([^\s\\;]+)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of a page: what is to be done with it, and its text."""

    kind: str
    body: str


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that are not only shown."""
    for found in _BLOCK.finditer(page.read_text()):
        if found["kind"]:
            yield Block(found["kind"], found["body"])


@dataclass(frozen=True)
class Output:
    """What a page shows that a block prints, and what it prints."""

    shown: str
    printed: str


def run_page(page: Path, folder: Path) -> list[Output]:
    """Do what a page says, on a terminal and in an empty folder; the outputs that it shows, and what is printed."""
    script: list[str] = []
    shown: dict[int, str] = {}
    for number, block in enumerate(blocks(page)):
        if block.kind == "output":
            shown[number - 1] = block.body
        elif block.kind == "install":
            (folder / ".venv").symlink_to(installed(block.body))
            script += [line for line in block.body.splitlines() if line.startswith(". ")]
        elif block.kind == "run":
            script.append(f"echo {_MARK}{number}\n{block.body}")
        else:
            saved = folder.parent / f"block-{number}"
            saved.write_text(block.body)
            script.append(f"cp {saved} {block.kind.removeprefix('file=')}")
    text = _on_a_terminal("\n".join(script), folder)
    printed = {int(part.split("\n", 1)[0]): part.partition("\n")[2] for part in text.split(_MARK)[1:]}
    return [Output(lines, printed[number]) for number, lines in shown.items()]


def _on_a_terminal(script: str, folder: Path) -> str:
    """Run a script to its end; what it prints, without colors and cursor movements."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, _COLUMNS, 0, 0))
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=plain_environment() | {"TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    stuck = threading.Timer(patient(120), process.kill)
    stuck.start()
    data = b""
    try:
        with contextlib.suppress(OSError):  # the terminal's other end is closed
            while more := os.read(ours, 65536):
                data += more
    finally:
        stuck.cancel()
        os.close(ours)
    text = _ESCAPES.sub("", data.decode())
    assert process.wait() == 0, text
    return text


def plain_environment() -> dict[str, str]:
    """What a shell has that nobody has set up: python3, and the programs of the system."""
    python = Path(sys.base_prefix) / "bin"
    return {"HOME": str(Path.home()), "PATH": f"{python}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


def installed(commands: str) -> Path:
    """The `.venv` that a page's commands make, with this checkout in place of the published package.

    It stays in the user's cache until the project's dependencies change. The checkout is installed editable, so that a
    change of the code needs no new installation.
    """
    folder = _CACHE / _digest(str(ROOT), commands)[:12]
    folder.mkdir(parents=True, exist_ok=True)
    fingerprint = _digest((ROOT / "pyproject.toml").read_text(), _lock(), sys.version)
    stamp = folder / "fingerprint"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != fingerprint:
            shutil.rmtree(folder / ".venv", ignore_errors=True)
            _install(folder, commands)
            stamp.write_text(fingerprint)
    return folder / ".venv"


def _install(folder: Path, commands: str) -> None:
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in _PINNED.findall(_lock())))
    given = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_")) or "proxy" in key}
    from_checkout, replaced = _PUBLISHED.subn(rf"pip install --quiet --editable '{ROOT}\1'", commands)
    assert replaced == 1, f"the page installs no spoke-jobs: {commands}"
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", from_checkout],
        cwd=folder,
        env=plain_environment() | given | {"PIP_CONSTRAINT": str(constraints)},
        check=True,
        timeout=patient(300),
    )


def _lock() -> str:
    return (ROOT / "requirements/dev.txt").read_text()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
