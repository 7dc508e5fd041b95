"""Make an SBOM that syft wrote the same each time. usage: sbom FILE

The document's time becomes SOURCE_DATE_EPOCH. Its serial number, which is random, is derived from its content.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5


def normal(document: dict[str, Any], epoch: int) -> dict[str, Any]:
    """Return a CycloneDX document without what differs between two runs."""
    time = f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%dT%H:%M:%SZ}"
    rest = {**document, "metadata": {**document["metadata"], "timestamp": time}}
    rest.pop("serialNumber", None)
    serial = uuid5(NAMESPACE_URL, json.dumps(rest, sort_keys=True))
    return {**rest, "serialNumber": serial.urn}


def main() -> None:
    """Rewrite the file that the argument names."""
    file = Path(sys.argv[1])
    document = normal(json.loads(file.read_text()), int(os.environ["SOURCE_DATE_EPOCH"]))
    file.write_text(f"{json.dumps(document, indent=1, sort_keys=True)}\n")


if __name__ == "__main__":
    main()
