"""What jobs print, as lines of the worker's log, and as the tail that the ledger keeps. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from spoke_jobs.ledger.lifecycle.transitions import TAIL_LIMIT
from spoke_jobs.shared.clean_text import visible_json
from spoke_jobs.shared.strict_json import NotJson, read_json_object

LOGGER = "spoke_jobs.output"
_ENCODED = 4
"""The most bytes of a character in UTF-8."""
TAIL_BYTES = TAIL_LIMIT * _ENCODED
WRITE_BYTES = 4096
"""Linux: PIPE_BUF. A pipe takes a write of so many bytes whole, so lines of different processes do not mix."""


def complete(data: bytes, *, ended: bool) -> bytes:
    """Return the part of the data up to its last line's end; all of it if nothing follows, or if the line is long."""
    end = data.rfind(b"\n") + 1
    return data if ended or (not end and len(data) >= TAIL_BYTES) else data[:end]


def tail(data: bytes, *, cut: bool = False) -> str:
    """Return the last lines of an output.

    :param cut: whether the data may begin within a line.
    """
    if len(data) > TAIL_BYTES:
        data, cut = data[-TAIL_BYTES:], True
    text = data.decode(errors="replace")
    if len(text) > TAIL_LIMIT:
        text, cut = text[-TAIL_LIMIT:], True
    return text[text.find("\n") + 1 :] if cut else text


def with_output(trace: str, output: str) -> str:
    """Return an attempt's last output, then its traceback, within the limit. Each gets at least half of it."""
    if not output:
        return trace
    output = output if output.endswith("\n") else output + "\n"
    if len(output) > (room := max(TAIL_LIMIT - len(trace), TAIL_LIMIT // 2)):
        output = output[-room:]
        output = output[output.find("\n") + 1 :] or output
    left = TAIL_LIMIT - len(output)
    return output + (trace[-left:] if left else "")


def log_lines(data: bytes, job_id: int | None, *, as_json: bool) -> bytes:
    """Return printed lines as lines of the worker's log, each with the job's id.

    A line of JSON gets the id as a field. No line is added or joined, and no byte is changed in a plain line.

    :param job_id: None if no job was running.
    """
    if not data:
        return b""
    lines = data.removesuffix(b"\n").split(b"\n")
    if as_json:
        return b"".join(_json_line(line, job_id) for line in lines)
    if job_id is None:
        return b"\n".join(lines) + b"\n"
    prefix, known = b"job %d: " % job_id, b"[job %d attempt " % job_id  # the second is in the lines of ctx.logger
    return b"".join(line + b"\n" if known in line else prefix + line + b"\n" for line in lines)


def writes(lines: bytes) -> Iterator[bytes]:
    """Split lines into groups of whole lines that a pipe takes at once. A line that is longer is a group of its own."""
    begin = 0
    while begin < len(lines):
        end = lines.rfind(b"\n", begin, begin + WRITE_BYTES) + 1 or lines.find(b"\n", begin) + 1 or len(lines)
        yield lines[begin:end]
        begin = end


def _json_line(line: bytes, job_id: int | None) -> bytes:
    of_job = {} if job_id is None else {"request_id": job_id}
    if line.startswith(b"{"):
        value = read_json_object(line)
        if not isinstance(value, NotJson):
            return line + b"\n" if of_job.items() <= value.items() else _encoded({**value, **of_job})
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return _encoded(
        {"time": now, "level": "info", "logger": LOGGER, "message": line.decode(errors="replace"), **of_job}
    )


def _encoded(value: dict[str, object]) -> bytes:
    return visible_json(json.dumps(value, default=str)).encode() + b"\n"
