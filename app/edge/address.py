"""Whose request it is: the peer, or whom a trusted proxy says it speaks for."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import Scope

from app.settings import Network

Address = IPv4Address | IPv6Address


def client_ip(scope: Scope, trusted: Sequence[Network]) -> Address | None:
    """The client's address, IPv4-mapped ones as IPv4; None where the peer has none (a Unix socket).

    X-Forwarded-For counts only from a peer in `trusted`. Every hop appends whom it heard, so it is read from the
    right: past trusted hops to the first other one. What stands left of that is the client's own invention.
    """
    peer = scope["client"]
    found = parse_address(peer[0]) if peer else None
    if not trusted or found is None or not _within(found, trusted):
        return found
    for entry in reversed(_forwarded_for(scope)):
        hop = parse_address(entry)
        if hop is None:  # no hop of ours writes such an entry: what is left of it proves nothing
            return found
        found = hop
        if not _within(hop, trusted):
            return found
    return found


@lru_cache(maxsize=4096)  # parsing costs 2 µs, and most peers come again
def parse_address(text: str) -> Address | None:
    """The address that `text` spells, without zone and IPv4 mapping; None for anything else, also with a port."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _forwarded_for(scope: Scope) -> list[str]:
    lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return b",".join(lines).decode("latin-1").split(",") if lines else []
