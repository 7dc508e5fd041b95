"""The files of a release: their names, and the list of their checksums."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
STATEMENT, ENVELOPE = "provenance.json", "provenance.intoto.jsonl"
BUNDLE = "provenance.sigstore.json"
NOT_LISTED = {SUMS, SIGNATURE, ENVELOPE, BUNDLE}
"""What is made after the checksums. SHA256SUMS lists all other files."""


class Refused(Exception):
    """The files are not those of the release."""


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that SHA256SUMS must list, by name.

    :raises Refused: if there is a symbolic link, behind which there may be files that no list names.
    """
    paths = sorted(folder.rglob("*"))
    for path in (folder, *paths):
        if path.is_symlink():
            raise Refused(f"{path} is a symbolic link, and a release has none")
    return {
        name: sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.is_file() and (name := path.relative_to(folder).as_posix()) not in NOT_LISTED
    }


def listed(sums: str) -> dict[str, str]:
    """Read SHA256SUMS, in the format of `sha256sum`.

    :raises Refused: if a line is not in that format, or a name is there twice.
    """
    read: dict[str, str] = {}
    for line in sums.splitlines():
        digest, separator, name = line.partition("  ")
        if not separator or len(digest) != 64 or name in read:
            raise Refused(f"{SUMS} has a line that is no checksum of a file of its own: {line!r}")
        read[name] = digest
    return read


def compare(found: dict[str, str], expected: dict[str, str], where: str) -> None:
    """Compare files with a list of them.

    :raises Refused: naming the first file that is missing, changed or not listed.
    """
    for name in sorted({*found, *expected}):
        if name not in found:
            raise Refused(f"{name} is missing, and {where} lists it")
        if name not in expected:
            raise Refused(f"{name} is not listed in {where}")
        if found[name] != expected[name]:
            raise Refused(f"{name} is not the file that {where} lists")
