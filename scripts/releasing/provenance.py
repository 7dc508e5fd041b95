"""Print how a release was built: an in-toto statement with SLSA provenance.

usage: provenance FOLDER VERSION [BASE_IMAGE DIGEST]

The subjects are the files of the folder. The same commit gives the same statement, except for the builder. See
https://slsa.dev/spec/v1.1/provenance and https://github.com/in-toto/attestation, spec/v1/statement.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from scripts.releasing.files import digests

ROOT = Path(__file__).parents[2]
LOCKS = ("release", "application", "operator")
BUILD_TYPE = "https://jobs.spoke.dev/release/v1"
"""A name for `scripts/release`; nothing is published there."""
OWN_MACHINE = "https://jobs.spoke.dev/builders/own-machine"


def git(*arguments: str) -> str:
    """Return what git prints about this repository."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def resource(name: str, algorithm: str, digest: str) -> dict[str, Any]:
    """Return a file or another thing with its digest."""
    return {"name": name, "digest": {algorithm: digest}}


def sources() -> list[dict[str, Any]]:
    """Return what the release is built from: the commit, and the locks of its requirements."""
    locks = [f"requirements/{lock}.txt" for lock in LOCKS]
    commit = resource("source", "gitCommit", git("rev-parse", "HEAD"))
    return [commit, *(resource(lock, "sha256", sha256((ROOT / lock).read_bytes()).hexdigest()) for lock in locks)]


def statement(
    files: Mapping[str, str],
    version: str,
    dependencies: list[dict[str, Any]],
    environment: Mapping[str, str],
    *,
    changed: bool,
) -> dict[str, Any]:
    """Describe a release.

    :param files: their SHA-256 by name.
    :param environment: in a workflow of GitHub, it names the workflow, which is then the builder.
    :param changed: whether the release contains changes that are not in the commit.
    """
    workflow = environment.get("GITHUB_WORKFLOW_REF")
    builder = f"{environment['GITHUB_SERVER_URL']}/{workflow}" if workflow else OWN_MACHINE
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [resource(name, "sha256", digest) for name, digest in files.items()],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "version": version,
                    "sourceDateEpoch": int(environment["SOURCE_DATE_EPOCH"]),
                    "uncommittedChanges": changed,
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {"builder": {"id": builder}},
        },
    }


def main() -> None:
    """Print the statement as JSON."""
    folder, version, *base = sys.argv[1:]
    dependencies = sources()
    if base:
        dependencies.append(resource(base[0], "sha256", base[1].removeprefix("sha256:")))
    changed = bool(git("status", "--porcelain", "--untracked-files=no"))
    json.dump(
        statement(digests(Path(folder)), version, dependencies, os.environ, changed=changed), sys.stdout, indent=2
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
