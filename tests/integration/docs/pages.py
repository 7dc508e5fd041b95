"""Run a page of the documentation as its reader does: in a plain shell that has only what the page itself sets.

A page may have these blocks: `sh install` makes a virtual environment and installs the project, `python file=NAME` is
saved, `sh run` is typed. All of them are one session, so what a block exports holds in those after it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spoke-jobs/docs"
_BLOCK = re.compile(r"^```(?P<language>\w+) ?(?P<kind>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_PUBLISHED = re.compile(r"pip install '?spoke-jobs(\[[\w,]+\])?'?")
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


def run_page(page: Path, folder: Path) -> str:
    """Do what a page says, in an empty folder; what its commands print to standard output."""
    script = []
    for number, block in enumerate(blocks(page)):
        if block.kind == "install":
            (folder / ".venv").symlink_to(installed(block.body))
            script += [line for line in block.body.splitlines() if line.startswith(". ")]
        elif block.kind == "run":
            script.append(block.body)
        else:
            saved = folder.parent / f"block-{number}"
            saved.write_text(block.body)
            script.append(f"cp {saved} {block.kind.removeprefix('file=')}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        cwd=folder,
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
        timeout=300,
    )


def _lock() -> str:
    return (ROOT / "requirements/dev.txt").read_text()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
