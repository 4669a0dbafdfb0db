"""Every way the reference vault and the recipient's tool refuse something, with codes that stay the same for ever."""

_TEXTS = {
    # The request.
    "name-invalid": "A file name is 1 to 80 of a-z, 0-9, dot and hyphen and begins with a letter or digit.",
    "upload-id-invalid": "An upload id is 32 lower-case hexadecimal digits.",
    "size-invalid": "A file has at least one octet.",
    "too-large": "The file is larger than this vault takes. Ask its operator to raise the limit.",
    "too-many-files": "The upload has more files than this vault takes. Split the study.",
    "body-incomplete": "The body ended before its announced length. Send the file again.",
    "digest-mismatch": "The body has another SHA-256 than Content-Digest says. Send the file again.",
    "content-conflict": "Other content is stored under this name already. Use a new upload id.",
    "upload-sealed": "The upload is committed, and nothing can be added to it. Use a new upload id.",
    "upload-removed": "The vault's operator has removed this upload. Use a new upload id.",
    "upload-committed": "The upload is committed with another map or list of files. Use a new upload id.",
    "foreign-upload": "The upload belongs to another gateway.",
    "commitment-invalid": "The commitment is not signed by this gateway's registered identity, or is malformed.",
    "commitment-mismatch": "The commitment is for another upload, gateway, vault or map than this.",
    "page-invalid": "A page is asked for with `after` and with `limit` from 1 to 1000.",
    "file-missing": "A file of the commitment is not stored with that size and hash. Send it, then commit again.",
    # The vault itself.
    "store-full": "The vault's disk is full, or its quota or this gateway's is. Make room, or raise the quota.",
    "store-locked": "Another process serves this directory. Stop it first.",
    "vault-mismatch": "The directory belongs to a vault of another id or kind. Choose another directory.",
    "vault-missing": "There is no vault in this directory, or its vault.json cannot be read.",
    "signing-key-missing": "The vault's signing.pem is missing. Restore it from the backup, or make a new receipt key.",
    "signing-key-differs": "signing.pem is not the key in vault.json. Restore it, or make a new receipt key.",
    "record-invalid": "A record of the vault is unreadable or malformed. Restore it from the backup.",
    "file-exposed": "Other users may read a secret file of the vault. Set its mode to 0600 and replace the tokens.",
    "gateway-id-invalid": "A gateway or vault id is 1 to 128 of A-Z, a-z, 0-9, dot, underscore, colon and hyphen.",
    "token-invalid": "A token has 16 to 512 visible ASCII characters.",
    "gateway-unknown": "No gateway of this id is registered. `gateways` lists them.",
    "recipient-unknown": "No recipient's key of this id is published. `recipients` lists them.",
    "token-taken": "Another gateway has this token. Every gateway needs its own.",
    "address-unusable": "The address cannot be listened on. Choose another port, or stop what uses it.",
    # The recipient's tool.
    "not-committed": "The upload is not committed, so it may be incomplete. Wait for the gateway.",
    "upload-unknown": "There is no upload of this id in the directory.",
    "gateway-unexpected": "The upload is signed by another gateway than the expected one. Compare fingerprints.",
    "file-damaged": "A stored file is missing or is not what the gateway committed. Ask for a new upload.",
    "map-invalid": "The study map is malformed or refers to files outside of its own uploads.",
    "canary": "The upload is a canary and holds no study. `canary` reads it.",
    "not-a-canary": "The upload is no canary. `open` gives the study back.",
    "bundle-invalid": "The bundle is not what `rewrap` writes, or does not fit the uploads of this vault.",
    "target-in-use": "The target folder exists and is not empty. Name a new one.",
    "input-invalid": "An input file is missing, unreadable or not what was asked for.",
}


class VaultStoreError(Exception):
    """One refusal: `code` is stable, the message says what to do and holds no content, token or personal data.

    `permanent` is False where the same call can succeed later.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
        self.permanent = code not in _TEMPORARY

    def __str__(self) -> str:
        return f"{_TEXTS[self.code]} [{self.code}]"


_TEMPORARY = frozenset(
    {"body-incomplete", "digest-mismatch", "file-missing", "store-full", "store-locked", "not-committed"}
)


def error_codes() -> tuple[str, ...]:
    """All codes, in the order in which the specification lists them."""
    return tuple(_TEXTS)
