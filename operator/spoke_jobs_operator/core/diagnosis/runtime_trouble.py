"""Tell the trouble of a node or its container runtime from that of a container's command or volumes, by the message.

The kubelet reports both under the same reasons, and containerd with the same exit code:
https://github.com/containerd/containerd/blob/main/internal/cri/server/container_start.go (`StartError`, 128). Only the
message differs. Runtimes are Go programs, which append the cause of an error to its message. So the last phrase that is
known counts. Quoted names of commands, paths and objects are not read: `timeout` is also a command.
"""

from __future__ import annotations

import re

_OF_THE_NODE = (
    r"deadline ?exceeded|context cancell?ed|timed out|(?<![\w/-])time-?out(?![\w/-])",
    # The runtime, or the process between it and a container (shim), has ended or restarts: containerd#4068, #10437
    r"ttrpc: closed|transport is closing|broken pipe|unexpected EOF|connection (?:refused|reset)|signal: killed",
    r"shim .{0,100}exited|no running task found",
    r"sandbox .{0,200}(?:not running|not found)|/proc/\d+/ns/\w+: no such file",
    # An earlier try that timed out still has the name: containerd#4604, cri-o#7010
    r"name .{0,500}is reserved|failed to reserve",
    r"no space left on device|disk quota exceeded|input/output error|structure needs cleaning",
    r"too many open files|resource temporarily unavailable|cannot allocate memory|device or resource busy",
)
_OF_THE_TEMPLATE = (
    r"executable file not found|no such file or directory|permission denied|operation not permitted",
    r"exec format error|argument list too long|not a directory|is a directory|read-only file system",
    r"invalid argument|unable to find user|no matching entries|OOM-killed|is not absolute",
)
_PHRASES = re.compile(f"(?P<node>{'|'.join(_OF_THE_NODE)})|(?P<template>{'|'.join(_OF_THE_TEMPLATE)})", re.IGNORECASE)
_QUOTED = re.compile(r"""\\.|((?:\b(?:caused |desc = |msg=))?)"((?:[^"\\]|\\.)*)("?)""", re.DOTALL)
"""A quoted string with escapes, and the words before it that say that it is not a name but an error in an error."""
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_LONGEST = 4096
"""The characters at the end of a message that are read. The kubelet cuts a message at this length."""


def is_runtime_trouble(message: str) -> bool:
    """Whether a container was not started because of its node or the node's container runtime."""
    found = [phrase.lastgroup for phrase in _PHRASES.finditer(_without_names(message)[-_LONGEST:])]
    return bool(found) and found[-1] == "node"


def _without_names(message: str) -> str:
    """Return the message without the content of quoted strings, except for quoted errors."""
    return _QUOTED.sub(_of_quoted, message)


def _of_quoted(found: re.Match[str]) -> str:
    introduced, content, end = found.groups()
    if not end:  # an escape, or a string that is cut off
        return found[0]
    if not introduced:
        return '""'
    return introduced + _without_names(_ESCAPE.sub(r"\1", content))


def is_short_of_memory(message: str) -> bool:
    """Whether the container's memory limit is too low to start it: `container init was OOM-killed`, as runc says."""
    return "container init was OOM-killed" in message
