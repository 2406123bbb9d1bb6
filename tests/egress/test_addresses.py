"""Which addresses may be called, and that no socket is opened to another one."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from aiohappyeyeballs import AddrInfoType
from hypothesis import given, settings
from hypothesis import strategies as st

from app.egress.addresses import AddressRefused, guard, kind_refused, unmapped
from tests.egress.peers import words

REFUSED = words("""
    0.0.0.0 0.0.0.1 0.255.255.255
    10.0.0.0 10.1.2.3 10.255.255.255
    100.64.0.0 100.64.0.1 100.100.100.200 100.127.255.255
    127.0.0.0 127.0.0.1 127.0.0.53 127.255.255.255
    169.254.0.1 169.254.169.254 169.254.170.2 169.254.255.255
    172.16.0.0 172.17.0.1 172.31.255.255
    192.0.0.1 192.0.0.8 192.0.0.170 192.0.0.192
    192.0.2.1 198.51.100.1 203.0.113.1
    192.88.99.1
    192.168.0.1 192.168.255.255
    198.18.0.1 198.19.255.255
    168.63.129.16
    224.0.0.1 232.1.2.3 239.255.255.255
    240.0.0.1 250.1.1.1 255.255.255.254 255.255.255.255
    :: ::1 ::2
    ::7f00:1 ::127.0.0.1 ::8.8.8.8
    ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:a9fe:a9fe ::ffff:0.0.0.0 ::ffff:100.64.0.1
    ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8
    64:ff9b::127.0.0.1 64:ff9b::8.8.8.8 64:ff9b:1::1 64:ff9b:1:ffff::10.0.0.1
    100::1 100:0:0:1::1
    2001::1 2001:0:7f00:1::1 2001:2::1 2001:10::1 2001:20::1 2001:1ff:ffff::1
    2001:db8::1 2001:db8:ffff::1 3fff::1 3fff:fff:ffff::1 3ffe::1
    2002:7f00:1:: 2002:a00:1::1 2002:808:808::1
    5f00::1 4000::1 8000::1 1::1 200::1
    fc00::1 fd00::1 fd00:ec2::254 fd20:ce::254 fdff:ffff::1
    fe80::1 fe80::1%1 febf::1 fec0::1 feff::1
    ff00::1 ff02::1 ff0e::1
    2606:4700::1111%1 ::ffff:8.8.8.8%1
""")

ALLOWED = words("""
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34
    100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
    169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0
    192.0.1.1 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
    168.63.129.15 168.63.129.17 223.255.255.255
    ::ffff:8.8.8.8 ::ffff:0808:0808
    2001:200::1 2001:4860:4860::8888 2003::1 2400:cb00::1 2606:4700:4700::1111 2a00:1450:4001::1
""")

#: What other programs take for an address; none is one here, so each is refused.
NOT_ADDRESSES = [
    *words("""
        127.1 127.0.1 2130706433 0x7f000001 0x7f.0.0.1 017700000001 0177.0.0.1 127.0.0.01 127.0.0.1.
        127.0.0.1%1 ①.①.①.① 127。0。0。1 [::1] ::1%25lo localhost example.com 1.2.3 1.2.3.4.5 256.1.1.1 :::1
    """),
    *("", " 8.8.8.8", "8.8.8.8 ", "8.8.8.8\n", "\N{FULLWIDTH DIGIT ONE}27.0.0.1"),
]


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len({*REFUSED, *ALLOWED, *NOT_ADDRESSES}) >= 90


@pytest.mark.parametrize("address", REFUSED + NOT_ADDRESSES)
def test_is_refused_and_no_socket_opens(address: str) -> None:
    assert kind_refused(address, ())
    with pytest.raises(AddressRefused):
        guard(())(_info(address))


@pytest.mark.parametrize("address", ALLOWED)
def test_is_allowed_and_a_socket_opens(address: str) -> None:
    assert kind_refused(address, ()) is None
    guard(())(_info(address)).close()


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.1", "127.0.0.0/8"),
        ("::ffff:127.0.0.1", "127.0.0.0/8"),
        ("10.20.30.40", "10.20.0.0/16"),
        ("169.254.169.254", "169.254.169.254/32"),
        ("::1", "::1/128"),
        ("fd12::1", "fd12::/16"),
        ("64:ff9b::8.8.8.8", "64:ff9b::/96"),
    ],
)
def test_an_allowed_network_permits_its_own_addresses_alone(address: str, network: str) -> None:
    allow = (ip_network(network),)
    assert kind_refused(address, allow) is None
    others = [other for other in REFUSED if "%" not in other and unmapped(other) not in allow[0]]
    assert all(kind_refused(other, allow) for other in others)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "a loopback address"),
        ("::ffff:127.0.0.1", "a loopback address"),
        ("10.0.0.1", "a private address"),
        ("169.254.169.254", "a cloud metadata address"),
        ("fd00:ec2::254", "a cloud metadata address"),
        ("::", "the unspecified address"),
        ("2002:7f00:1::", "a 6to4 address"),
        ("2001::1", "a Teredo address"),
        ("64:ff9b::a00:1", "a NAT64 address"),
        ("5f00::1", "a segment routing address"),
        ("4000::1", "a reserved address"),
    ],
)
def test_people_read_what_an_address_is(address: str, kind: str) -> None:
    assert kind_refused(address, ()) == kind


@settings(deadline=None)
@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_nothing_that_python_calls_special_is_called(address: IPv4Address | IPv6Address) -> None:
    inner = unmapped(str(address))
    special = inner.is_private or inner.is_reserved or inner.is_multicast or not inner.is_global
    assert kind_refused(str(address), ()) or not special


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_the_one_it_maps(address: IPv4Address) -> None:
    assert kind_refused(f"::ffff:{address}", ()) == kind_refused(str(address), ())


def _info(address: str) -> AddrInfoType:
    try:
        family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    except ValueError:
        family = socket.AF_INET
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 80)
