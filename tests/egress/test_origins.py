"""What is said about a base address when it is registered, and that what passes is what will be called."""

from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from app.egress.addresses import kind_refused
from app.egress.origins import origin_refusal
from tests.egress.peers import words

ACCEPTED = words("""
    https://api.example.com http://api.example.com https://api.example.com/ HTTPS://API.example.com
    https://api.example.com:8443 https://api.example.com:1/v1 https://api.example.com/v1/caf%C3%A9/x%2Fy
    https://intranet http://my_service:8080 https://xn--bcher-kva.example https://1.1.1.1 http://8.8.8.8:53/
    https://[2606:4700::1111] https://[2606:4700::1111]:8443/v1 https://[::ffff:8.8.8.8] https://a-b.c-d.example
    https://1password.example https://3.example https://example.com/a;b=c,d/(e)/*!$&'@:~
""")

REFUSED = [
    ("ftp://api.example.com", "start with https://"),
    ("//api.example.com", "start with https://"),
    ("api.example.com", "start with https://"),
    ("", "start with https://"),
    ("https:/api.example.com", "start with https://"),
    ("file:///etc/passwd", "start with https://"),
    ("javascript:alert(1)", "start with https://"),
    ("http://", "name a host"),
    ("http:///x", "name a host"),
    ("http://:80", "name a host"),
    ("https://bob@api.example.com", "credential"),
    ("https://bob:pw@api.example.com", "credential"),
    ("https://1.1.1.1@127.0.0.1", "credential"),
    ("https://@api.example.com", "credential"),
    ("https://api.example.com?a=1", "query"),
    ("https://api.example.com/v1?", "query"),
    ("https://api.example.com#x", "fragment"),
    ("https://api.example.com/v1#", "fragment"),
    ("https://api.example.com:", "port from 1"),
    ("https://api.example.com:0", "port from 1"),
    ("https://api.example.com:080", "port from 1"),
    ("https://api.example.com:65536", "port from 1"),
    ("https://api.example.com:x", "port from 1"),
    ("https://api.example.com:80:81", "port from 1"),
    ("https://api.example.com:-1", "port from 1"),
    ("https://api.example.com.", "write 'api.example.com'"),
    ("https://127.0.0.1.", "write '127.0.0.1'"),
    ("https://..", "dot"),
    ("https://127.0.0.1", "127.0.0.1 is a loopback address"),
    ("https://10.0.0.1:8080/x", "10.0.0.1 is a private address"),
    ("https://169.254.169.254/latest", "a cloud metadata address"),
    ("https://[::1]", "a loopback address"),
    ("https://[::ffff:10.0.0.1]", "a private address"),
    ("https://[64:ff9b::7f00:1]", "a NAT64 address"),
    ("https://[fe80::1%25eth0]", "zone"),
    ("https://[fe80::1%eth0]", "zone"),
    ("https://[1.1.1.1]", "IPv6 address in its brackets"),
    ("https://[]", "IPv6 address in its brackets"),
    ("https://[::1", "name a host and perhaps a port"),
    ("https://::1", "name a host"),
    ("https://a[::1]", "name a host and perhaps a port"),
    ("https://[::1]a", "name a host and perhaps a port"),
    ("https://0x7f000001", "'0x7f000001' is 127.0.0.1"),
    ("https://127.1", "'127.1' is 127.0.0.1"),
    ("https://017700000001", "'017700000001' is 127.0.0.1"),
    ("https://2130706433", "'2130706433' is 127.0.0.1"),
    ("https://0177.0.0.0x1", "is 127.0.0.1"),
    ("https://0", "is 0.0.0.0"),
    ("https://1.2.3.4.5", "four decimal numbers"),
    ("https://256.1.1.1", "four decimal numbers"),
    ("https://example.123", "four decimal numbers"),
    ("https://\N{FULLWIDTH DIGIT ONE}27.0.0.1", "ASCII"),
    ("https://127。0。0。1", "ASCII"),
    ("https://bücher.example", "'https://xn--bcher-kva.example'"),
    ("https://ⓛocalhost", "ASCII"),
    ("https://localhost", "a loopback address"),
    ("https://LOCALHOST:8080", "a loopback address"),
    ("https://x.localhost", "a loopback address"),
    ("https://%31%32%37.0.0.1", "four decimal numbers|letters, digits"),
    ("https://a..b", "letters, digits"),
    ("https://-a.example", "letters, digits"),
    ("https://a-.example", "letters, digits"),
    (f"https://{'a' * 64}.example", "letters, digits"),
    (f"https://{'a.' * 130}example", "letters, digits"),
    ("https://a b", "' '"),
    ("https://a\\b", "percent-encode"),
    ("https://a\r\nb", "percent-encode"),
    (" https://api.example.com", "' '"),
    ("https://api.example.com\n", "percent-encode"),
    ("https://api.example.com/a b", "percent-encode"),
    ("https://api.example.com/%zz", "percent-encoded path"),
    ("https://api.example.com/%", "percent-encoded path"),
    ('https://api.example.com/"', "percent-encoded path"),
    ("https://api.example.com/é", "ASCII"),
    ("https://api.example.com/a/../b", "'..'"),
    ("https://api.example.com/.", "'..'"),
    ("https://api.example.com/a/%2e%2E/b", "'..'"),
    ("https://api.example.com/" + "a" * 2048, "2048"),
]


@pytest.mark.parametrize("url", ACCEPTED)
def test_passes(url: str) -> None:
    assert origin_refusal(url, ()) is None


@pytest.mark.parametrize(("url", "says"), REFUSED, ids=[ascii(url)[:60] for url, _ in REFUSED])
def test_is_refused_and_told_why(url: str, says: str) -> None:
    refusal = origin_refusal(url, ())
    assert refusal
    assert any(part in refusal for part in says.split("|"))
    assert refusal.startswith("must ")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://localhost:9", "http://[::ffff:127.0.0.1]:9/x"])
def test_an_allowed_network_permits_its_addresses(url: str) -> None:
    assert origin_refusal(url, (ip_network("127.0.0.0/8"),)) is None


def test_an_allowed_network_excuses_no_odd_spelling() -> None:
    assert origin_refusal("http://0x7f000001", (ip_network("0.0.0.0/0"),))


PIECES = st.sampled_from(
    [
        *"/:@?#[]%.\\- \t\n",
        *words("http https:// 127.0.0.1 8.8.8.8 0x7f ::1 %2e .. é localhost example.com 80 65536 %zz xn--"),
        *("\N{FULLWIDTH DIGIT ONE}", "a" * 70),
    ]
)
TEXT = st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join)
URLS = TEXT | TEXT.map("https://".__add__) | TEXT.map("http://1.1.1.1".__add__)


@settings(deadline=None)
@given(URLS)
def test_what_passes_is_read_alike_by_the_client_and_stays_public(url: str) -> None:
    if origin_refusal(url, ()) is not None:
        return
    read = URL(url, encoded=True)
    host = read.raw_host
    rebuilt = f"{read.scheme}://{read.raw_authority}{read.raw_path}"
    assert rebuilt.rstrip("/").lower() == url.rstrip("/").lower()
    assert host
    assert read.port
    assert (read.raw_user, read.raw_password) == (None, None)
    if ":" in host or host.replace(".", "").isdigit():
        assert kind_refused(host, ()) is None
