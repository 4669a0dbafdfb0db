"""npm's jose: JOSE by another house, in another language, over another library of ciphers (Node's WebCrypto)."""

import json
import subprocess
from typing import Any

from tests.outside.npm import HERE
from uploads.envelope.encoding import base64url_decode, base64url_encode

PROGRAM = HERE / "node_jose.mjs"
_OCTETS = ("plaintext", "payload", "apu", "apv", "session_key")


def node_asks(*questions: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer for each question (see the program), all by one Node; octets go in and come out as bytes."""
    told = [{name: _text(value) for name, value in question.items()} for question in questions]
    done = subprocess.run(
        ["node", str(PROGRAM)], input=json.dumps(told), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [
        {name: base64url_decode(value) if name in _OCTETS else value for name, value in answer.items()}
        for answer in json.loads(done.stdout)
    ]


def node_answers(do: str, **arguments: Any) -> dict[str, Any]:
    """The answer to one question."""
    return node_asks({"do": do, **arguments})[0]


def _text(value: object) -> object:
    return base64url_encode(value) if isinstance(value, bytes) else value
