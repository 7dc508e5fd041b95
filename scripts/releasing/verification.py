"""Verify the files of a release. usage: verification FOLDER [PUBLIC.pem]

- Each file has the checksum that SHA256SUMS lists, and SHA256SUMS lists each file.
- The provenance is a valid in-toto statement about the same files.
- The SBOMs are valid CycloneDX documents.
- With a public key: its owner signed SHA256SUMS and the provenance.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf.json_format import ParseDict, ParseError
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from scripts.releasing.files import STATEMENT, SUMS, Refused, compare, digests, listed
from scripts.releasing.signing import verify as verify_signatures


def verify(folder: Path, public_key: bytes | None) -> None:
    """Verify a release.

    :raises Refused: saying what is wrong.
    """
    if public_key:
        verify_signatures(folder, public_key)
    expected = listed((folder / SUMS).read_text())
    compare(digests(folder), expected, SUMS)
    verify_statement(json.loads((folder / STATEMENT).read_text()), expected)
    for file in sorted(folder.glob("sbom/*")):
        verify_sbom(file)


def verify_statement(statement: dict[str, object], expected: dict[str, str]) -> None:
    """Verify that the provenance is valid and about these files."""
    try:
        message = ParseDict(statement, StatementMessage())
        Statement.copy_from_pb(message).validate()
        ParseDict(statement["predicate"], Provenance())
    except (ParseError, ValueError) as error:
        raise Refused(f"{STATEMENT} is no in-toto statement with SLSA provenance: {error}") from error
    subjects = {item.name: item.digest["sha256"] for item in message.subject}
    compare({**subjects, STATEMENT: expected.get(STATEMENT, "")}, expected, SUMS)


def verify_sbom(file: Path) -> None:
    """Verify that an SBOM follows the schema of its version."""
    text = file.read_text()
    version = SchemaVersion.from_version(json.loads(text)["specVersion"])
    error = JsonStrictValidator(version).validate_str(text)
    if error:
        raise Refused(f"{file.name} is no CycloneDX document: {error.data}")


def main() -> None:
    """Verify the folder that the arguments name."""
    folder, *key = sys.argv[1:]
    try:
        verify(Path(folder), Path(key[0]).read_bytes() if key else None)
    except (Refused, OSError, KeyError, ValueError, UnsupportedAlgorithm) as error:
        sys.exit(f"verification: {error}")


if __name__ == "__main__":
    main()
