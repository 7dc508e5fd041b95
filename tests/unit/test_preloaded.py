"""A program that is forked from a process with its libraries is as one that Python started (tests/preloaded)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.preloaded import MODULES, OBEYED, READ_AT_THE_START, Program
from tests.waiting import patient

SAYS = """
import json, os, sys, threading, time
print("on stderr", file=sys.stderr)
libraries = [name for name in ("sqlalchemy", "kopf") if name in sys.modules]
import sqlalchemy
from spoke_jobs.ledger.tables import SCHEMA
own = [sys.argv[1:], __name__, sys.path[0], sys.path[1:-3].count(os.environ.get("PYTHONPATH")), os.getcwd(), SCHEMA]
same = [sys.stdin.read(), sorted(os.listdir("/proc/self/fd")), time.tzname[0], threading.active_count()]
same += [sys.flags.dev_mode, sys.dont_write_bytecode]
print(json.dumps([own, same, sorted(name for name in os.environ if name.startswith("SPOKE_"))]))
print(json.dumps([libraries, os.getppid(), os.getsid(0) == os.getpid(), os.getpid()]))
sys.exit(7)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    more = {"SPOKE_SCHEMA": "other", "TZ": "Asia/Tokyo"}
    more |= {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    return {name: value for name, value in os.environ.items() if not name.startswith("SPOKE_")} | more


def said(process: subprocess.Popen[str]) -> list[Any]:
    out, err = process.communicate("given", timeout=patient(60))
    assert err == "on stderr\n"
    assert process.returncode == 7
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("how", ["script", "module"])
def test_it_is_as_if_python_had_started_it(tmp_path: Path, environment: dict[str, str], how: str) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "says.py").write_text(SAYS)
    arguments = {"script": [str(tmp_path / "program/says.py")], "module": ["-m", "program.says"]}[how] + ["a", "--b=c"]
    options: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    options |= {"env": environment, "cwd": tmp_path, "text": True, "start_new_session": True}
    forked = Program("worker", arguments, **options)
    usual = subprocess.Popen([sys.executable, *arguments], **options)
    (mine, about_it), (expected, about_usual) = said(forked), said(usual)
    assert mine == expected
    assert mine[0][-1] == "other", "it has imported the project's modules itself"
    assert about_it == [["sqlalchemy"], os.getpid(), True, forked.pid]
    assert about_usual == [[], os.getpid(), True, usual.pid]


def test_a_signal_ends_it_as_any_child(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import threading\nthreading.Event().wait()")
    with Program("worker", [tmp_path / "waits.py"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        assert process.wait(patient(60)) == -signal.SIGKILL
        assert process.stdout.read() == b"", "nobody else has its output open"


@pytest.mark.parametrize("of_python", ["code", "settings"])
def test_what_only_python_s_start_obeys_starts_in_the_usual_way(tmp_path: Path, of_python: str) -> None:
    code = "import sys; print('sqlalchemy' in sys.modules, sys.flags.dev_mode)"
    (tmp_path / "shown.py").write_text(code)
    arguments = ["-c", code] if of_python == "code" else [str(tmp_path / "shown.py")]
    env = os.environ | ({} if of_python == "code" else {"PYTHONDEVMODE": "1"})
    process = Program("worker", arguments, env=env, stdout=subprocess.PIPE, text=True)
    assert process.communicate(timeout=patient(60))[0] == f"False {of_python == 'settings'}\n"


@pytest.mark.parametrize("option", [{"process_group": 0}, {"restore_signals": False}])
def test_an_option_that_a_fork_would_not_obey_is_refused(tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="nor th"):
        Program("worker", [tmp_path / "never.py"], **option)


READS = """
import importlib, os, sys
read, get = set(), os._Environ.__getitem__
def note(self, name):
    frame = sys._getframe(1)
    while frame.f_globals["__name__"] in ("os", "_collections_abc"):
        frame = frame.f_back
    if frame.f_globals["__name__"].partition(".")[0] not in (*sys.stdlib_module_names, "spoke_jobs"):
        read.add(name)
    return get(self, name)
os._Environ.__getitem__ = note
for module in sys.argv[1:]:
    importlib.import_module(module)
print(*sorted(read))
"""


@pytest.mark.parametrize("kind", MODULES)
def test_what_the_libraries_read_from_the_environment_is_known(kind: str) -> None:
    """Otherwise a program would have what the fork server's environment says."""
    command = [sys.executable, "-c", READS, *MODULES[kind]]
    read = subprocess.run(command, capture_output=True, text=True, check=True, timeout=patient(60)).stdout.split()
    assert {name for name in read if not name.startswith(READ_AT_THE_START)} <= OBEYED


def test_a_program_reads_the_kubeconfig_that_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(
        "from kubernetes.config import kube_config\nprint(kube_config.KUBE_CONFIG_DEFAULT_LOCATION)"
    )
    process = Program(
        "sync", [tmp_path / "shown.py"], env=os.environ | {"KUBECONFIG": "/its/own"}, stdout=subprocess.PIPE, text=True
    )
    assert process.communicate(timeout=patient(60))[0] == "/its/own\n"
