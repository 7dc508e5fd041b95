"""The command line as these tests call it: in a process of its own, on the product's database and cluster."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests.waiting import patient

from .conftest import Object, Product

COMMAND = (sys.executable, "-m", "spoke_jobs")


def settings(product: Product, **more: str) -> dict[str, str]:
    """The environment of a person who works with the product."""
    return os.environ | {"SPOKE_DATABASE_URL": product.url, "SPOKE_NAMESPACE": product.namespace} | more


def run(product: Product, *arguments: object, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a command prints, once it has ended with that exit code."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=settings(product, **environment),
        capture_output=True,
        text=True,
        timeout=patient(120),
        check=False,
    )
    assert done.returncode == code, f"{arguments}: exit {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def document(product: Product, *arguments: object, **environment: str) -> Object:
    """The JSON that a command prints."""
    answer: Object = json.loads(run(product, *arguments, "--json", **environment).stdout)
    return answer


def start(product: Product, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Begin a command that goes on, and that Ctrl-C interrupts though the tests may run in a script's background."""
    return subprocess.Popen(
        ["env", "--default-signal=INT", *COMMAND, *map(str, arguments)],
        env=settings(product, **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def as_seen(product: Product, *arguments: object, **more: str) -> str:
    """What a command shows on a terminal, 100 columns wide and without colours."""
    code, shown, errors = on_a_terminal([*COMMAND, *map(str, arguments)], settings(product, **more))
    assert code == 0, errors
    return shown


def on_a_terminal(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
    """A command's exit code, what it shows on such a terminal, and what it writes to stderr."""
    leader, follower = pty.openpty()
    looks = dict(environment) | {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    with subprocess.Popen(command, env=looks, stdout=follower, stderr=subprocess.PIPE) as process:
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(leader, 65536):
                shown += chunk
        except OSError:  # EIO: the other end is closed
            pass
        assert process.stderr is not None
        errors = process.stderr.read().decode()
    os.close(leader)
    return process.returncode, shown.decode().replace("\r\n", "\n"), errors
