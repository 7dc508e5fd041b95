"""Fuzz a reader, or `all` of them, guided by coverage: `python -m tests.fuzz READER [libFuzzer's options]`.

It exits with a code other than 0, and writes the input to a file of the temporary folder (`-artifact_prefix=` for
another place), if the reader raises an error.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["spoke_jobs", "spoke_jobs_operator"]):
    from tests.readers import EXAMPLES, READERS


def main() -> None:
    """Fuzz until the options' bounds are reached."""
    _, name, *options = sys.argv
    readers = list(READERS.values()) if name == "all" else [READERS[name]]

    def once(data: bytes) -> None:
        for read in readers:
            read(data)

    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(EXAMPLES):
            (Path(corpus) / str(number)).write_bytes(data)
        findings = f"-artifact_prefix={tempfile.gettempdir()}/"
        atheris.Setup([sys.argv[0], corpus, "-max_len=6000", findings, *options], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
