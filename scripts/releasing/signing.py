"""Sign the files of a release with a private key, without a network. usage: signing FOLDER PRIVATE.pem

The key is an ECDSA P-256 or Ed25519 key. Two files are written:

- SHA256SUMS.sig, the signature of SHA256SUMS, which openssl can verify;
- provenance.intoto.jsonl, the statement in provenance.json in a signed envelope (DSSE), which tools for in-toto
  attestations can verify.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from scripts.releasing.files import ENVELOPE, SIGNATURE, STATEMENT, SUMS, Refused
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def sign(folder: Path, private_key: bytes) -> None:
    """Sign the release's checksums and its provenance."""
    signer = CryptoSigner(load_pem_private_key(private_key, password=None))  # type: ignore[arg-type]
    signature = signer.sign((folder / SUMS).read_bytes())
    (folder / SIGNATURE).write_bytes(bytes.fromhex(signature.signature))
    envelope = Envelope((folder / STATEMENT).read_bytes(), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    (folder / ENVELOPE).write_text(f"{json.dumps(envelope.to_dict())}\n")


def verify(folder: Path, public_key: bytes) -> None:
    """Verify both signatures.

    :raises Refused: naming the file that the key did not sign.
    """
    key = SSlibKey.from_crypto(load_pem_public_key(public_key))
    signature = Signature(key.keyid, (folder / SIGNATURE).read_bytes().hex())
    try:
        key.verify_signature(signature, (folder / SUMS).read_bytes())
    except UnverifiedSignatureError as error:
        raise Refused(f"{SIGNATURE} is no signature of {SUMS} by this key") from error
    envelope = Envelope.from_dict(json.loads((folder / ENVELOPE).read_text()))
    try:
        envelope.verify([key], 1)
    except UnverifiedSignatureError as error:
        raise Refused(f"{ENVELOPE} has no signature by this key") from error
    if envelope.payload_type != PAYLOAD_TYPE or envelope.payload != (folder / STATEMENT).read_bytes():
        raise Refused(f"{ENVELOPE} does not contain {STATEMENT}")


def main() -> None:
    """Sign the folder that the arguments name."""
    folder, key = sys.argv[1:]
    try:
        sign(Path(folder), Path(key).read_bytes())
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        sys.exit(f"signing: {error}")


if __name__ == "__main__":
    main()
