"""The form of our secrets: a prefix that says what it is, 256 random bits, and a checksum.

The checksum lets a secret scanner, and the gateway before it asks the database, tell a token from a typing
error (as GitHub's tokens do). It proves nothing: only the keyed hash in the store does.
"""

import re
from enum import StrEnum
from zlib import crc32

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM = 43  # base-62 digits in 256 bits
_CHECK = 6  # base-62 digits in 32 bits
_SHOWN = 6  # of the random digits, in the prefix that lists show


class TokenKind(StrEnum):
    """What a secret is for; its value is the secret's prefix."""

    API_KEY = "cgk_"
    OFFER = "cgo_"
    LIVE = "cgt_live_"
    TEST = "cgt_test_"


_FORM = {
    kind: re.compile(rf"{kind.value}([0-9A-Za-z]{{{_RANDOM}}})([0-9A-Za-z]{{{_CHECK}}})")
    for kind in TokenKind
}
#: Any of them, and webhook secrets; 20: none of ours is shorter, few words are longer.
_SECRET = re.compile(rb"(cg[ko]_|cgt_(?:live|test)_|whsec_)[A-Za-z0-9_+/=-]{20,}")
_REDACTED = rb"\1" + "…redacted".encode()


def render(kind: TokenKind, random: bytes) -> str:
    """The token for 32 random bytes."""
    body = kind.value + _base62(int.from_bytes(random), _RANDOM)
    return body + _checksum(body)


def well_formed(kind: TokenKind, text: str) -> bool:
    """Whether `text` could be a token of this kind: its form and its checksum are right."""
    return _FORM[kind].fullmatch(text) is not None and _checksum(text[:-_CHECK]) == text[-_CHECK:]


def shown(kind: TokenKind, text: str) -> str:
    """The start of a token: enough to tell it from others, too little to use it."""
    return text[: len(kind.value) + _SHOWN]


def redact(text: bytes) -> bytes:
    """`text` with each of our secrets cut down to its prefix."""
    return _SECRET.sub(_REDACTED, text)


def redacted(text: str) -> str:
    """The same of a text that is to be recorded, or said."""
    return redact(text.encode()).decode() if "cg" in text or "whsec_" in text else text


def _checksum(body: str) -> str:
    return _base62(crc32(body.encode()), _CHECK)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
