"""Every way in which an envelope is refused, each with a code that stays the same for ever."""

_TEXTS = {
    # What the caller hands in.
    "identifier-invalid": "An identifier is missing or has characters or a length that the format does not allow.",
    "recipients-invalid": "A sealing run needs between 1 and 8 recipients.",
    "document-invalid": "The document cannot be written as JSON, or its kind is not map, info or metadata.",
    "too-large": "The input is larger than the format allows. Split the study, or check where the input came from.",
    # Keys.
    "key-invalid": "The key is not an EC key on P-521 with 66-octet coordinates. Ask its owner for the right JWK.",
    "key-private": "A private key was given where a public one belongs. Treat that key as disclosed and replace it.",
    "key-file-exists": "The key file exists already and is never overwritten. Move it away first to replace it.",
    "key-file-exposed": "Other users may read the key file. Set its mode to 0600 and think about replacing the key.",
    "key-file-invalid": "The key file does not hold one unencrypted PKCS #8 key on P-521. Restore it from the backup.",
    # Signed and encrypted JSON.
    "encoding-invalid": "The input is not the base64url or JSON that the format asks for. Fetch it again.",
    "algorithm-refused": "The input names an algorithm or header that this format does not allow.",
    "type-mismatch": "The signed or encrypted object is of another type than expected.",
    "signer-unknown": "The object names another signing key than the pinned one. Compare fingerprints with its owner.",
    "signature-invalid": "The signature does not verify under the pinned key. The object was changed or forged.",
    "receipt-mismatch": "The receipt is for another upload, vault, map or list of files than the one that was sent.",
    "commitment-mismatch": "The commitment token does not say what the commitment beside it says.",
    # Opening.
    "not-for-this-key": "The key document was sealed for another recipient. Use the private key whose id it names.",
    "key-unknown": "No key for this sealing run has been added yet. Add its key document first.",
    "run-conflict": "Two key documents name one sealing run and hold different keys. One of them is forged.",
    "authentication-failed": "The authentication tag does not match. The data was changed, cut together or damaged.",
    "file-invalid": "The input is not a GVE1 file, or is one of a version that this program does not know.",
    "file-truncated": "The file ends before its final segment. Fetch it again.",
    "trailing-bytes": "Bytes follow the final segment. Fetch the file again.",
    "content-too-large": "The content is larger than was declared or allowed; it was not written out further.",
    "content-corrupt": "The decrypted content cannot be decompressed to the declared size. The sealer is at fault.",
    "content-mismatch": "The file is intact, but is not the one that the study map lists in this place.",
    "document-mismatch": "The document is intact, but belongs to another upload, sealing run, gateway, vault or kind.",
}
_TEMPORARY = frozenset({"key-unknown"})


class EnvelopeError(Exception):
    """One refused input: `code` is stable, the message says what to do and never holds content or personal data.

    `permanent` is False only where the same call can succeed later (the key document of a run is not added yet).
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
        self.permanent = code not in _TEMPORARY

    def __str__(self) -> str:
        return f"{_TEXTS[self.code]} [{self.code}]"


def error_codes() -> tuple[str, ...]:
    """All codes, in the order in which the specification lists them."""
    return tuple(_TEXTS)
