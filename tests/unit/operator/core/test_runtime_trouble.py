"""What container runtimes say when a container does not start: whose trouble it is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.core.kubelet import CREATING, WAITS, container, ended, real_pod, stuck, warning
from tests.unit.operator.core.objects import NOW, job

from spoke_jobs.contract.causes import cause_class
from spoke_jobs.contract.retry import is_charged
from spoke_jobs_operator.core.diagnosis.attempt_state import Bounds, Ended, Pends
from spoke_jobs_operator.core.diagnosis.diagnose import diagnose
from spoke_jobs_operator.core.diagnosis.pod_end import end_of
from spoke_jobs_operator.core.diagnosis.runtime_trouble import is_runtime_trouble
from spoke_jobs_operator.core.objects.api_objects import Pod, WarningEvent

TASK = "failed to create containerd task: "
SHIM = f"{TASK}failed to create shim task: "
RUNC = f"{SHIM}OCI runtime create failed: runc create failed: unable to start container process: "
OF_INIT = f"{RUNC}error during container init: "
OOM = f"{RUNC}container init was OOM-killed (memory limit too low?)"
NAME = "job_sj-1-x_shop_3dc00fd6-0c5d-42be-bec8-e4f6cad616da_0"

OF_THE_NODE = {
    "timeout": f"{SHIM}context deadline exceeded: unknown",
    "timeout-rpc": "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
    "timeout-io": f"{TASK}failed to start io pipe copy: opening w/o fifo: context deadline exceeded",
    "timeout-systemd": f"{RUNC}unable to apply cgroup configuration: Timeout waiting for systemd to create cri.scope",
    "cancelled": f"{SHIM}context canceled: unknown",
    "shim-closed": 'failed to start containerd task "6e3e87f5": ttrpc: closed: unknown',
    "shim-exited": f"{TASK}failed to start shim: start failed: shim 8a1b exited: exit status 1: unknown",
    "runtime-restarts": 'rpc error: code = Unavailable desc = connection error: desc = "transport is closing"',
    "killed": f"{SHIM}OCI runtime create failed: runc create failed: signal: killed: unknown",
    "sandbox-died": 'failed to create containerd container: sandbox container "8b21a9" is not running',
    "sandbox-gone": (
        f"{SHIM}OCI runtime create failed: runc create failed: unable to create new parent process: namespace path: "
        "lstat /proc/0/ns/ipc: no such file or directory: unknown"
    ),
    "name-containerd": f'failed to reserve container name "{NAME}": name "{NAME}" is reserved for "8b21a9870e3ecc09"',
    "name-cri-o": (
        "Kubelet may be retrying requests that are timing out in CRI-O due to system load: context deadline exceeded: "
        f"error reserving ctr name k8s_{NAME} for id 8424e8: name is reserved"
    ),
    "disk": f'{OF_INIT}error mounting "/run/netns" to rootfs at "/run/netns": no space left on device: unknown',
    "disk-old": (
        f"{TASK}OCI runtime create failed: container_linux.go:265: starting container process caused "
        '"process_linux.go:348: container init caused \\"rootfs_linux.go:57: mounting \\\\\\"/run/netns\\\\\\" caused '
        '\\\\\\"no space left on device\\\\\\"\\"": unknown'
    ),
    "files": f"{TASK}failed to create shim: pipe2: too many open files: unknown",
    "quoted-error": (
        'rpc error: code = Unknown desc = "failed to start: exec: \\"app\\": mount \\"/a\\": no space left on device"'
    ),
    "logged-error": 'runc did not terminate successfully: time="now" level=error msg="mount \\"/a\\": timed out"',
    "timeout-network": 'failed to set up sandbox "8b21": Get "https://10.0.0.1:443/api": dial tcp: i/o timeout',
    "timeout-of-path": f'{OF_INIT}error mounting "/no such file or directory" to rootfs at "/b": timed out: unknown',
    "path-after": f'{SHIM}context deadline exceeded: removing "/run/exec format error"',
    "processes": f"{SHIM}fork/exec /usr/bin/runc: resource temporarily unavailable: unknown",
    "memory": f"{SHIM}fork/exec /usr/bin/runc: cannot allocate memory: unknown",
}
OF_THE_TEMPLATE = {
    "no-command": f'{RUNC}exec: "spoke-jobs": executable file not found in $PATH: unknown',
    "no-file": f'{RUNC}exec: "/opt/spoke-jobs": stat /opt/spoke-jobs: no such file or directory: unknown',
    "not-executable": f'{RUNC}exec: "./main": permission denied: unknown',
    "wrong-machine": f"{RUNC}exec /usr/bin/spoke-jobs: exec format error",
    "workdir": f'{OF_INIT}chdir to cwd ("/app") set in config.json failed: permission denied: unknown',
    "mount": (
        f'{OF_INIT}error mounting "/var/lib/kubelet/pods/1/volumes/a" to rootfs at "/etc/app": not a directory: '
        "Are you trying to mount a directory onto a file (or vice-versa)?: unknown"
    ),
    "read-only": f'{OF_INIT}error mounting "/a" to rootfs at "/b": mkdirat /b: read-only file system: unknown',
    "user": "container create failed: unable to find user app: no matching entries in passwd file",
}
"""As reported in issues of kubernetes, containerd, runc, cri-o and k3s, with other names."""
NODE, TEMPLATE = list(OF_THE_NODE.values()), list(OF_THE_TEMPLATE.values())
UNKNOWN = ["", f"{RUNC}something that no release says today"]
FORGED = {
    "command": f'{RUNC}exec: "context deadline exceeded": executable file not found in $PATH: unknown',
    "command-timeout": f'{RUNC}exec: "timeout": something that no release says today',
    "command-timeout-quoted": f'{SHIM}starting container process caused "exec: \\"timeout\\": something new": unknown',
    "command-line": f'{RUNC}exec: "timeout 60 app \\"x\\"": something that no release says today',
    "path-timeout": f'{RUNC}exec: "/usr/bin/timeout": something that no release says today',
    "path-timeout-bare": f"{RUNC}exec /usr/bin/timeout: text file busy",
    "path-timeout-folder": f"{RUNC}exec /opt/timeout/app: text file busy",
    "path-after": f'{RUNC}exec: "app": permission denied: see "/var/log/timeout"',
    "path": f'{RUNC}exec: "/no space left on device": stat /no space left on device: no such file or directory',
}
"""A command's or a volume's name is no trouble of the node."""


def not_started(message: str, reason: str = "StartError", **spec: object) -> Pod:
    return real_pod(container("job", ended(128, reason, message)), phase="Failed", spec=spec or None)


@pytest.mark.parametrize("message", NODE, ids=OF_THE_NODE)
@pytest.mark.parametrize("reason", ["StartError", "ContainerCannotRun", "RunContainerError"])
def test_a_container_that_its_node_did_not_start_is_not_charged_and_says_why(reason: str, message: str) -> None:
    end = end_of(not_started(message, reason))
    assert end == Ended("ContainerRuntimeFailed", exit_code=128, message=message)
    assert not is_charged(cause_class(end.cause))


@pytest.mark.parametrize("message", [*TEMPLATE, *UNKNOWN, *FORGED.values()])
def test_a_command_or_volume_that_cannot_be_used_is_charged(message: str) -> None:
    end = end_of(not_started(message))
    assert end == Ended("ContainerCannotRun", exit_code=128, message=message)
    assert is_charged(cause_class(end.cause))


def test_a_memory_limit_that_is_too_low_to_start_is_raised_as_after_any_other_end_out_of_memory() -> None:
    limited = [{"name": "job", "resources": {"limits": {"memory": "4Mi"}}}]
    end = end_of(not_started(OOM, containers=limited))
    assert end is not None
    assert (end.cause, end.message) == ("OutOfMemory", f"The container's memory limit was 4Mi. {OOM}")


def test_without_a_memory_limit_the_node_was_short_of_memory() -> None:
    assert end_of(not_started(OOM)) == Ended("ContainerRuntimeFailed", exit_code=128, message=OOM)


def look(pod: Pod, *events: WarningEvent, age: float) -> Pends | Ended:
    state = diagnose(job(created=-age), (pod,), events, Bounds(start=600, run=None), NOW, live=True)
    assert isinstance(state, Pends | Ended)
    return state


@pytest.mark.parametrize("reason", ["CreateContainerError", "RunContainerError"])
@pytest.mark.parametrize("kind", ["timeout", "name-containerd", "disk"])
def test_while_the_kubelet_tries_again_the_job_waits_and_is_tried_on_another_pod_later(reason: str, kind: str) -> None:
    pod = real_pod(container("job", stuck(reason, OF_THE_NODE[kind])))
    state = look(pod, age=10)
    assert isinstance(state, Pends)
    assert (state.reason, state.message) == ("ContainerRuntimeFailed", OF_THE_NODE[kind])
    end = look(pod, age=600)
    assert isinstance(end, Ended)
    assert (end.cause, end.message, end.stop) == ("ContainerRuntimeFailed", OF_THE_NODE[kind], True)


def test_an_init_container_that_the_kubelet_cannot_create_is_named() -> None:
    first = container("first", stuck("CreateContainerError", OF_THE_NODE["timeout"]))
    end = look(real_pod(container("job", WAITS), init=(first,)), age=600)
    assert isinstance(end, Ended)
    assert (end.cause, end.container) == ("ContainerRuntimeFailed", "first")
    assert end.message == f"container 'first': {OF_THE_NODE['timeout']}"


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("Failed to create pod sandbox: rpc error: code = DeadlineExceeded desc = context deadline exceeded",
         "ContainerRuntimeFailed"),
        ('Failed to create pod sandbox: rpc error: code = Unknown desc = RuntimeHandler "kata" not supported',
         "StartTimeout"),
    ],
)  # fmt: skip
def test_a_pod_whose_node_cannot_prepare_it_in_time_is_tried_again_unless_its_template_is_wrong(
    said: str, cause: str
) -> None:
    pod, event = real_pod(container("job", CREATING)), warning("FailedCreatePodSandBox", said)
    state = look(pod, event, age=10)
    assert isinstance(state, Pends)
    assert state.reason == "SandboxFailed"
    end = look(pod, event, age=600)
    assert isinstance(end, Ended)
    assert end.cause == cause
    assert said in end.message


@given(st.lists(st.sampled_from([*NODE, *TEMPLATE, "", "shim ", "name ", "sandbox "]), max_size=8))
@settings(deadline=None)
def test_of_several_phrases_the_last_one_is_the_cause(parts: list[str]) -> None:
    known = [part for part in parts if part in NODE or part in TEMPLATE]
    assert is_runtime_trouble("\n".join(parts)) == bool(known and known[-1] in NODE)


@given(st.lists(st.sampled_from(['"', "\\", "caused ", "desc = ", "a", "timeout", " "]), max_size=30))
@settings(deadline=None)
def test_whatever_is_quoted_before_the_last_words_count(parts: list[str]) -> None:
    """Also if the message was cut within a quoted string."""
    assert is_runtime_trouble(f"{''.join(parts)}: no space left on device")


@pytest.mark.parametrize("word", ["shim ", "name ", "sandbox ", "/proc/1/ns/", '\\"', 'caused "', "\\"])
def test_a_long_message_is_read_quickly(word: str) -> None:
    begun = time.process_time()
    assert not is_runtime_trouble(word * 100_000)
    assert time.process_time() - begun < 5
