"""`scripts/services` ends the services that these scripts started, and no others. The services here are stand-ins."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.waiting import patient

ROOT = Path(__file__).parents[3]

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The scripts' folder below the user's cache."""
    return tmp_path / "cache/spoke-jobs"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process of that name, which waits. Another engine runs all the time."""
    processes: list[subprocess.Popen[bytes]] = []

    def started(name: str, *arguments: object, **options: object) -> subprocess.Popen[bytes]:
        program = tmp_path / name
        program.write_text("#!/bin/bash\necho\nread\n")
        program.chmod(0o755)
        command = [program, *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
        processes.append(process)
        process.stdout.readline()  # it has its name
        return process  # type: ignore[no-any-return]

    other = started("dockerd", "--config-file", "/etc/docker/daemon.json")
    yield started
    assert other.poll() is None
    for process in processes:
        process.kill()
        process.communicate()


def services(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    ports = {"SPOKE_POSTGRES_PORT": "1", "SPOKE_REDIS_PORT": "1"}
    return subprocess.run(
        [ROOT / "scripts/services", *arguments],
        env=os.environ | ports | {"XDG_CACHE_HOME": str(cache.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def engine(start: Start, cache: Path) -> list[subprocess.Popen[bytes]]:
    folder = cache / "engine"
    folder.mkdir(parents=True, exist_ok=True)
    marked = os.environ | {"SPOKE_ENGINE": str(folder)}
    return [
        start("dockerd", "--config-file", folder / "daemon.json", env=marked),
        start("containerd", env=marked),
        start("containerd-shim", env=marked),
    ]


def test_stop_ends_the_engine_that_these_scripts_started(start: Start, cache: Path) -> None:
    (own, *_) = engine(start, cache)
    assert f"runs, started by these scripts (process {own.pid})" in services(cache, "status").stdout
    done = services(cache, "stop")
    assert (done.returncode, own.wait(patient(30))) == (0, -15), done.stderr
    assert f"(process {own.pid})" not in services(cache, "status").stdout


def test_kill_ends_what_the_engine_started_too(start: Start, cache: Path) -> None:
    own, others_shim = engine(start, cache), start("containerd-shim")
    done = services(cache, "stop", "--kill")
    assert done.returncode == 0, done.stderr
    assert [process.wait(patient(30)) for process in own] == [-9, -9, -9]
    assert others_shim.poll() is None


def test_kill_ends_the_redis_in_these_scripts_folder_alone(start: Start, cache: Path, tmp_path: Path) -> None:
    folder = cache / "redis-1"
    folder.mkdir(parents=True)
    own, other = start("redis-server", cwd=folder), start("redis-server", cwd=tmp_path)
    assert f"Redis on port 1: runs (process {own.pid})" in services(cache, "status").stdout
    done = services(cache, "stop", "--kill")
    assert (done.returncode, own.wait(patient(30))) == (0, -9), done.stderr
    assert other.poll() is None


@pytest.mark.parametrize("arguments", [(), ("stop", "--kil"), ("start",)])
def test_a_wrong_word_changes_nothing(start: Start, cache: Path, arguments: tuple[str, ...]) -> None:
    (own, *_) = engine(start, cache)
    done = services(cache, *arguments)
    assert (done.returncode, done.stderr) == (1, "services: usage: services status|stop [--kill]\n")
    assert own.poll() is None
