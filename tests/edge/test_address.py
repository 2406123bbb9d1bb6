"""Whose request it is, whatever X-Forwarded-For claims."""

from ipaddress import ip_network

import pytest
from starlette.types import Scope

from app.edge.address import client_ip

TRUSTED = tuple(ip_network(text) for text in ("127.0.0.1/32", "10.0.0.0/8", "fd00::/8"))


def scope(peer: str | None, *forwarded: str) -> Scope:
    headers = [(b"host", b"a"), *((b"x-forwarded-for", line.encode()) for line in forwarded)]
    return {"type": "http", "client": (peer, 4711) if peer else None, "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # nobody forwarded
        ("203.0.113.7", [], "203.0.113.7"),
        ("::1", [], "::1"),
        ("::ffff:203.0.113.7", [], "203.0.113.7"),
        ("fe80::1%eth0", [], "fe80::1"),
        (None, [], None),
        ("not an address", [], None),
        ("10.0.0.1", [], "10.0.0.1"),
        # only a trusted peer is believed
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["2001:db8::5"], "2001:db8::5"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        # from the right, past trusted hops, to the first other one
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.0.0.3,10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["127.0.0.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # two lines are one list
        ("10.0.0.1", ["198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        # a malformed entry proves nothing about what is left of it
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1,"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:80"], "10.0.0.1"),
        ("10.0.0.1", ["0x7f.1"], "10.0.0.1"),
        ("10.0.0.1", ["010.0.0.9"], "10.0.0.1"),
    ],
)
def test_the_client_is_the_first_hop_that_nobody_trusted_vouches_for(
    peer: str | None, forwarded: list[str], expected: str | None
) -> None:
    found = client_ip(scope(peer, *forwarded), TRUSTED)
    assert (found and str(found)) == expected


def test_without_trusted_proxies_the_header_is_air() -> None:
    assert str(client_ip(scope("127.0.0.1", "198.51.100.1"), ())) == "127.0.0.1"


def test_bytes_that_are_no_text_are_malformed() -> None:
    claimed = scope("10.0.0.1")
    claimed["headers"].append((b"x-forwarded-for", b"\xff\xfe"))
    assert str(client_ip(claimed, TRUSTED)) == "10.0.0.1"
