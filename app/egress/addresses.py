"""Which addresses may be called. The guard is asked about the very address that each new socket connects to.

A check of names or in the resolver is not enough: IP literals never reach a resolver, and a name may resolve to one
address when it is checked and to another when it is called.
"""

import socket
import sys
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from aiohappyeyeballs import AddrInfoType

from app.settings import Network

Address = IPv4Address | IPv6Address
Guard = Callable[[AddrInfoType], socket.socket]

#: All of IPv6 that is or will be assigned as global unicast (IANA IPv6 address space). What lies outside is refused.
_GLOBAL_V6: Final = IPv6Network("2000::/3")

#: Networks and what they are for: IANA's special-purpose registries, and cloud services on public addresses.
#: The first match names the address to people, so narrow ones come first.
_SPECIAL: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(network), kind)
    for network, kind in (
        ("169.254.169.254/32", "a cloud metadata address"),
        ("100.100.100.200/32", "a cloud metadata address"),  # Alibaba
        ("192.0.0.192/32", "a cloud metadata address"),  # Oracle
        ("168.63.129.16/32", "a cloud metadata address"),  # Azure: inside a public range
        ("fd00:ec2::254/128", "a cloud metadata address"),  # AWS
        ("fd20:ce::254/128", "a cloud metadata address"),  # Google
        ("0.0.0.0/32", "the unspecified address"),
        ("::/128", "the unspecified address"),
        ("127.0.0.0/8", "a loopback address"),
        ("::1/128", "a loopback address"),
        ("0.0.0.0/8", "an address of this network"),
        ("10.0.0.0/8", "a private address"),
        ("172.16.0.0/12", "a private address"),
        ("192.168.0.0/16", "a private address"),
        ("fc00::/7", "a private address"),
        ("fec0::/10", "a site-local address"),
        ("100.64.0.0/10", "a shared carrier address"),
        ("169.254.0.0/16", "a link-local address"),
        ("fe80::/10", "a link-local address"),
        ("224.0.0.0/4", "a multicast address"),
        ("ff00::/8", "a multicast address"),
        ("192.0.2.0/24", "a documentation address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("2001:db8::/32", "a documentation address"),
        ("3fff::/20", "a documentation address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("2001:2::/48", "a benchmarking address"),
        ("192.88.99.0/24", "a 6to4 relay address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("240.0.0.0/4", "a reserved address"),
        # Each of these carries an IPv4 address inside, which a relay would connect to in our place.
        ("64:ff9b::/96", "a NAT64 address"),
        ("64:ff9b:1::/48", "a NAT64 address"),
        ("2002::/16", "a 6to4 address"),
        ("2001::/32", "a Teredo address"),
        ("::ffff:0:0:0/96", "an IPv4-translated address"),
        ("::/96", "an IPv4-compatible address"),
        ("192.0.0.0/24", "a reserved address"),
        ("2001::/23", "a reserved address"),
        ("3ffe::/16", "a reserved address"),  # 6bone, returned to IANA
        ("100::/64", "a discard address"),
        ("5f00::/16", "a segment routing address"),
    )
)


#: 60 s: longer than an honest peer stops reading.
_UNREAD_MS: Final = 60_000


class AddressRefused(OSError):
    """Raised in place of a socket. `kind` says what the address is, `"a loopback address"`, and names it not."""

    def __init__(self, kind: str) -> None:
        # One text for all: where a name has many addresses, the connector keeps the type only if the texts agree.
        super().__init__("this address may not be called")
        self.kind = kind


def guard(allow: Sequence[Network]) -> Guard:
    """What opens sockets, and opens none to an address that `kind_refused` names. Raises AddressRefused."""

    def open_socket(info: AddrInfoType) -> socket.socket:
        family, type_, protocol, _, address = info
        if kind := kind_refused(str(address[0]), allow):
            raise AddressRefused(kind)
        return _bounded(socket.socket(family, type_, protocol))

    return open_socket


def _bounded(opened: socket.socket) -> socket.socket:
    # A closed connection lives on until the peer has read what was sent to it. Linux can put an end to that.
    if sys.platform == "linux":
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
    return opened


def kind_refused(text: str, allow: Sequence[Network]) -> str | None:
    """What the address in `text` is, if it may not be called; None if it may.

    It may if it is in one of the `allow` networks, or if it is globally routable and stands for nothing else.
    """
    try:
        address = unmapped(text)
    except ValueError:
        return "not a numeric address"
    if any(address in network for network in allow):
        return None
    for network, kind in _SPECIAL:
        if address in network:
            return kind
    # The tables of Python differ between patch releases: they may only add to ours.
    routable = address.is_global and (address.version == 4 or address in _GLOBAL_V6)
    return None if routable else "a reserved address"


def unmapped(text: str) -> Address:
    """The address in `text`; the IPv4 one for `::ffff:a.b.c.d`, which the kernel calls by IPv4. Raises ValueError."""
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return address
    if address.scope_id is not None:
        # A zone would have to be looked up again, after this check.
        raise ValueError("a zone belongs to this machine, not to an address")
    return address.ipv4_mapped or address
