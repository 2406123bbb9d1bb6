"""Paths and queries: read once, strictly, and written again from what was read.

The path that was authorised is the path on the wire (promise 9), so what servers and proxies are known to
read in two ways is not read at all: dot segments in any spelling, encoded slashes, empty segments, path
parameters (`;`), control characters, an escape within an escape; nor what becomes one of these where
somebody folds Unicode's compatibility forms, as in a fullwidth `..`.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from unicodedata import normalize
from urllib.parse import quote, unquote_to_bytes

LONGEST = 4096

_RAW_PATH = re.compile(rb"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,=:@]|%[0-9A-Fa-f]{2})+)+")
_RAW_QUERY = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?\[\]|]|%[0-9A-Fa-f]{2})*")
_FORBIDDEN = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]|%[0-9A-Fa-f]{2}|^\.{1,2}(?:;.*)?$")
_UNRESERVED = "-._~:@,"


def parse_path(raw: bytes) -> tuple[str, ...] | None:
    """The decoded segments of a raw path such as `b"/v1/receipts/42"`, or None where it is not plain."""
    return _parsed(raw) if len(raw) <= LONGEST else None


# Clients repeat themselves; the answer depends on nothing but the bytes.
@lru_cache(maxsize=4096)
def _parsed(raw: bytes) -> tuple[str, ...] | None:
    if _RAW_PATH.fullmatch(raw) is None:
        return None
    try:
        segments = tuple(unquote_to_bytes(part).decode("utf-8", "strict") for part in raw[1:].split(b"/"))
    except UnicodeDecodeError:
        return None
    return segments if all(map(is_plain, segments)) else None


def is_plain(segment: str) -> bool:
    """Whether a decoded segment means the same to everyone who reads it."""
    if segment == "" or _FORBIDDEN.search(segment) or not segment.isprintable():
        return False
    return segment.isascii() or _FORBIDDEN.search(normalize("NFKC", segment)) is None


@lru_cache(maxsize=4096)
def wire_path(segments: Sequence[str]) -> str:
    """The one spelling in which these segments go on the wire."""
    return "".join("/" + quote(segment, safe=_UNRESERVED) for segment in segments)


def is_query(raw: bytes) -> bool:
    """Whether a raw query string is one by RFC 3986 (and `[`, `]`, `|`, which browsers send unescaped)."""
    return len(raw) <= LONGEST and _RAW_QUERY.fullmatch(raw) is not None
