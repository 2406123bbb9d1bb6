"""Which base addresses an upstream, a webhook or a callback may be registered under.

Registration is the time to say what is wrong; it protects nobody. A name is only looked up, and its address judged,
when it is called (see `addresses`).
"""

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import unquote

from yarl import URL

from app.egress.addresses import kind_refused
from app.settings import Network

_MAX_URL: Final = 2048
_MAX_NAME: Final = 253  # RFC 1035 section 3.1, as text
_EXAMPLE: Final = "as in https://api.example.com"
_PROVEN: Final = "leave them out, for a webhook is known by its signature, and a callback by its verifier"

_OUTSIDE_URLS = re.compile(r"[\x00-\x20\x7f\\]")
_SHAPE = re.compile(r"(?i:https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
#: A host whose last label is a number is an IPv4 address to every resolver (WHATWG URL, "ends in a number").
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)")
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*")


@dataclass(frozen=True, slots=True)
class Reach:
    """Where what we push to may be: private networks that are allowed, and whether plain http:// is."""

    allow: Sequence[Network]
    require_https: bool

    def refusal(self, url: str) -> str | None:
        """What is wrong with `url` as an address to push to, as `origin_refusal` says it."""
        if self.require_https and not url.lower().startswith("https://"):
            return "must start with https://: this gateway takes no other (CROSSGRANT_REQUIRE_HTTPS)"
        return origin_refusal(url, self.allow, pushed=True)


def origin_refusal(url: str, allow: Sequence[Network], *, pushed: bool = False) -> str | None:
    """What is wrong with `url` as a base address, and what would be right; None if nothing is.

    A sentence without its subject, to stand after a field's name. `allow` is CROSSGRANT_EGRESS_ALLOW. What is `pushed` to,
    as webhooks and callbacks are, has no credential.
    """
    if len(url) > _MAX_URL:
        return f"must have at most {_MAX_URL} characters"
    if not url.isascii():
        return _in_ascii(url)
    if found := _OUTSIDE_URLS.search(url):
        return f"must not hold {found.group()!r}: percent-encode it in a path, leave it out elsewhere"
    shape = _SHAPE.fullmatch(url)
    if shape is None:
        return f"must be absolute and start with https:// or http://, {_EXAMPLE}"
    authority, path, query, fragment = shape.groups()
    return (
        _extra_refusal(authority, query, fragment, pushed)
        or _authority_refusal(authority, allow)
        or _path_refusal(path)
    )


def _in_ascii(url: str) -> str:
    try:
        return f"must be written in ASCII, as {str(URL(url))!r}"
    except ValueError:
        return f"must be written in ASCII, {_EXAMPLE}"


def _extra_refusal(authority: str, query: str | None, fragment: str | None, pushed: bool) -> str | None:
    if "@" in authority:
        return (
            f"must not hold a user name or a password: {_PROVEN if pushed else 'store them as a credential'}"
        )
    if query is not None:
        return "must not hold a query: leave out the '?' and what follows"
    if fragment is not None:
        return "must not hold a fragment: leave out the '#' and what follows"
    return None


def _authority_refusal(authority: str, allow: Sequence[Network]) -> str | None:
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        return "must name a host and perhaps a port, as in api.example.com:8443 or [2606:4700::1111]:8443"
    host, port = parts.groups()
    return _host_refusal(host, allow) or _port_refusal(port)


def _port_refusal(port: str | None) -> str | None:
    if port is None or (re.fullmatch(r"[1-9][0-9]{0,4}", port) and int(port) <= 65535):
        return None
    return f"must have a port from 1 to 65535 after the ':', or neither, not {port!r}"


def _host_refusal(host: str, allow: Sequence[Network]) -> str | None:
    if not host:
        return f"must name a host, {_EXAMPLE}"
    if host.startswith("["):
        return _ipv6_refusal(host[1:-1], allow)
    if host.endswith("."):
        return f"must not end its host in a dot: write {host.rstrip('.')!r}"
    if _NUMERIC.fullmatch(host):
        return _ipv4_refusal(host, allow)
    return _name_refusal(host, allow)


def _ipv6_refusal(text: str, allow: Sequence[Network]) -> str | None:
    try:
        address = IPv6Address(text)
    except ValueError:
        return f"must hold an IPv6 address in its brackets, as in [2606:4700::1111], not {text!r}"
    if address.scope_id is not None:
        return "must name an address without a zone: leave out the '%' and what follows"
    return _address_refusal(text, allow)


def _ipv4_refusal(text: str, allow: Sequence[Network]) -> str | None:
    try:
        IPv4Address(text)
    except ValueError:
        return f"must write an IPv4 address as four decimal numbers{_as_resolvers_read(text)}"
    return _address_refusal(text, allow)


def _as_resolvers_read(text: str) -> str:
    """`0x7f.1` is 127.0.0.1 to a resolver: say so."""
    try:
        return f": {text!r} is {socket.inet_ntoa(socket.inet_aton(text))}"
    except OSError:
        return f", which {text!r} is not"


def _name_refusal(name: str, allow: Sequence[Network]) -> str | None:
    if len(name) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        return f"must name a host of letters, digits, hyphens and dots, {_EXAMPLE}"
    if re.fullmatch(r"(?:.*\.)?localhost", name, re.IGNORECASE):  # RFC 6761 section 6.3
        return _address_refusal("::1", allow) and _address_refusal("127.0.0.1", allow)
    return None


def _address_refusal(address: str, allow: Sequence[Network]) -> str | None:
    if kind := kind_refused(address, allow):
        return (
            f"must be on the public internet: {address} is {kind}. "
            "Whoever runs this gateway can permit its network with CROSSGRANT_EGRESS_ALLOW"
        )
    return None


def _path_refusal(path: str) -> str | None:
    if not _PATH.fullmatch(path):
        return "must have a percent-encoded path, as in /v1/caf%C3%A9"
    if any(unquote(segment) in (".", "..") for segment in path.split("/")):
        return "must not have '.' or '..' in its path: write the path that it leads to"
    return None
