"""Checkpoint tokens: a stream's whole state in the client's hands, sealed.

No replica keeps anything of a stream: whoever has the key opens the token and goes on. It is
encrypted as well as signed, for it travels in addresses, which proxies write to their logs, and
holds what was heard of a person.

    token = base64url(version (1 byte) | key id (4) | salt (16) | AES-256-GCM(zlib(JSON)))

The salt makes a key for this token alone, so no nonce is ever used twice (ADR 10).
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic_core import to_json

from ser_core.errors import CheckpointRejected

#: Of the state as of the token: one of another version is refused, never guessed at.
VERSION = 3
#: Longest token that is looked at; ours are far shorter, and a request line holds 8 KiB.
MAX_TOKEN_CHARS = 4096
MIN_KEY_BYTES = 32

_KEY_ID_BYTES = 4
_SALT_BYTES = 16
_HEAD_BYTES = 1 + _KEY_ID_BYTES + _SALT_BYTES
_MAX_JSON_BYTES = 64 * 1024
_NONCE = bytes(12)


@dataclass(frozen=True, slots=True)
class StreamState:
    """All that another connection needs to go on with a stream.

    `query` are the parameters it was opened with, `audio_from` is the first sample that it is
    to be sent again, `session` the state of its `StreamSession`. `n_dropped_samples` are those of
    frames that took no place in the stream.
    """

    session_id: str
    query: dict[str, Any]
    model: str
    model_sha256: str
    audio_from: int
    n_dropped_samples: int
    n_dropped_segments: int
    session: dict[str, Any]


_FIELDS = fields(StreamState)


class CheckpointSeal:
    """Makes tokens with the first key, and opens those of any of its keys.

    Without keys it makes one that dies with the process. Raises `ValueError` for a key shorter
    than `MIN_KEY_BYTES`.
    """

    def __init__(self, keys: Sequence[bytes] = (), ttl_s: float = 3600.0) -> None:
        keys = keys or (secrets.token_bytes(MIN_KEY_BYTES),)
        if any(len(key) < MIN_KEY_BYTES for key in keys):
            raise ValueError(f"a key must have at least {MIN_KEY_BYTES} bytes")
        self._keys = {_derived(key, b"id")[:_KEY_ID_BYTES]: key for key in keys}
        self._first_id = _derived(keys[0], b"id")[:_KEY_ID_BYTES]
        self.ttl_s = ttl_s

    def seal(self, state: StreamState, now_s: float) -> str:
        """A token of the state that expires `ttl_s` after `now_s` (Unix time)."""
        document = {"expires_s": now_s + self.ttl_s}
        document |= {field.name: getattr(state, field.name) for field in _FIELDS}
        text = zlib.compress(to_json(document))
        head = bytes([VERSION]) + self._first_id + secrets.token_bytes(_SALT_BYTES)
        sealed = self._cipher(head).encrypt(_NONCE, text, head)
        return _text_of(head + sealed)

    def open(self, token: str, now_s: float) -> StreamState:
        """The state in a token; raises `CheckpointRejected` with a code for each reason."""
        data = _bytes_of(token)
        head, sealed = data[:_HEAD_BYTES], data[_HEAD_BYTES:]
        if head[0] != VERSION:
            raise CheckpointRejected(
                f"the checkpoint is of version {head[0]}, and version {VERSION} is spoken here",
                remedy="open a new stream",
                code="checkpoint_other_version",
            )
        if head[1 : 1 + _KEY_ID_BYTES] not in self._keys:
            raise CheckpointRejected(
                "the checkpoint was sealed with a key that is not known here",
                remedy="open a new stream; operators: give all replicas the same "
                "GLRF_CHECKPOINT_KEYS",
                code="checkpoint_unknown_key",
            )
        try:
            text = self._cipher(head).decrypt(_NONCE, sealed, head)
        except InvalidTag as error:
            raise _forged() from error
        # What was sealed here is not doubted, but no length is believed all the same.
        document = json.loads(zlib.decompressobj().decompress(text, _MAX_JSON_BYTES))
        expires_s = document.pop("expires_s")
        if now_s >= expires_s:
            raise CheckpointRejected(
                f"the checkpoint expired {now_s - expires_s:.0f} s ago",
                remedy="open a new stream",
                code="checkpoint_expired",
            )
        return StreamState(**document)

    def _cipher(self, head: bytes) -> AESGCM:
        key = self._keys[head[1 : 1 + _KEY_ID_BYTES]]
        return AESGCM(_derived(key, b"seal" + head[-_SALT_BYTES:]))


def _bytes_of(token: str) -> bytes:
    if len(token) > MAX_TOKEN_CHARS:
        raise _forged()
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise _forged() from error
    if len(data) <= _HEAD_BYTES or _text_of(data) != token:
        raise _forged()
    return data


def _text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _forged() -> CheckpointRejected:
    return CheckpointRejected(
        "this is no checkpoint of this service, or it was altered",
        remedy="send the token of the last checkpoint as it came, or open a new stream",
    )


def _derived(key: bytes, purpose: bytes) -> bytes:
    """A 32-byte key for one purpose (NIST SP 800-108, one block in counter mode)."""
    return hmac.digest(key, b"\x01glrf checkpoint\x00" + purpose, hashlib.sha256)
