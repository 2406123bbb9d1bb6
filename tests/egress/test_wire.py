"""What is on the wire, in both directions."""

import gzip

import pytest

from app.egress.client import OURS, Answer, Egress, NotSent, Outbound, Outcome, Unknown
from app.rules.errors import Code
from tests.egress.peers import OK, answers, call, get, hangs_up_after, peer, words

PATHS = words("""
    / /a/%2e%2e/b /a/../b /a/./b //a//b/ /a%2Fb%5cc /%7Euser/~user /a;b=c/d,e /a+b%20c /%00 /a@b:c?d@e
    /x?a=1&a=2&b=%20+%2B&c /x?q=%E2%82%AC&r=/../? /x?a=%2e%2E/
""")


@pytest.mark.parametrize("path", PATHS)
async def test_the_path_on_the_wire_is_the_path_that_was_given(egress: Egress, path: str) -> None:
    async with peer(answers()) as near:
        assert isinstance(await get(egress, near.url(path)), Answer)
        assert near.requests[0].split(b"\r\n")[0] == f"GET {path} HTTP/1.1".encode()


async def test_a_base_address_without_a_path_asks_for_the_root(egress: Egress) -> None:
    async with peer(answers()) as near:
        await get(egress, near.url(""))
        assert near.requests[0].startswith(b"GET / HTTP/1.1\r\n")


async def test_headers_are_the_callers_and_framing_is_ours(egress: Egress) -> None:
    given = [
        *((name.title(), "999") for name in sorted(OURS)),
        ("Authorization", "Bearer x"),
        ("X-Two", "1"),
        ("X-Two", "2"),
        ("Content-Type", "text/plain"),
    ]
    async with peer(answers()) as near:
        url = near.url()
        assert isinstance(await call(egress, Outbound("POST", url, given, b"body")), Answer)
        assert _headers(near.requests[0]) == [
            b"Host: 127.0.0.1:%d" % near.port,
            b"Accept-Encoding: identity",
            b"User-Agent: Crossgrant",
            b"Authorization: Bearer x",
            b"X-Two: 1",
            b"X-Two: 2",
            b"Content-Type: text/plain",
            b"Accept: */*",
            b"Content-Length: 4",
        ]
        assert near.requests[0].endswith(b"\r\n\r\nbody")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PUT", "PATCH", "PURGE"])
@pytest.mark.parametrize("body", [b"", b"x"])
async def test_each_method_frames_its_body_and_declares_no_type_unasked(
    egress: Egress, method: str, body: bytes
) -> None:
    async with peer(answers(OK if method != "HEAD" else OK[:-2])) as near:
        for _ in range(2):
            assert isinstance(await call(egress, Outbound(method, near.url(), (), body)), Answer)
        assert near.lines == 1
        for request in near.requests:
            assert request.startswith(f"{method} / ".encode())
            assert b"content-type" not in request.lower()
            assert request.endswith(b"\r\n\r\n" + body)
            lengths = [line for line in _headers(request) if line.startswith(b"Content-Length")]
            assert lengths in ([b"Content-Length: %d" % len(body)], [] if not body else None)


async def test_a_large_body_arrives_whole(egress: Egress) -> None:
    body = bytes(range(256)) * 20_000
    async with peer(answers()) as near:
        assert isinstance(await call(egress, Outbound("PUT", near.url(), (), body)), Answer)
        assert near.requests[0].endswith(body)
        assert b"Content-Length: %d" % len(body) in _headers(near.requests[0])


@pytest.mark.parametrize(
    ("method", "header"),
    [
        ("GET /x HTTP/1.1\r\nX:", ("X", "y")),
        ("get", ("X", "y")),
        ("", ("X", "y")),
        ("CONNECT", ("X", "y")),
        ("GET", ("X y", "z")),
        ("GET", ("X:", "z")),
        ("GET", ("", "z")),
        ("GET", ("X\r\nY", "z")),
        ("GET", ("X", "a\r\nY: b")),
        ("GET", ("X", "a\nb")),
        ("GET", ("X", "a\x00b")),
        ("GET", ("X", "a\udcffb")),
    ],
)
async def test_what_would_not_stay_within_its_line_is_not_sent(
    egress: Egress, method: str, header: tuple[str, str]
) -> None:
    async with peer(answers()) as near:
        for body in (b"", b"x"):
            outcome = await call(egress, Outbound(method, near.url(), [header], body))
            assert isinstance(outcome, NotSent)
            assert outcome.code is Code.UPSTREAM_DENIED
        assert near.requests == []


async def test_compressed_answers_stay_as_they_are(egress: Egress) -> None:
    packed = gzip.compress(b"x" * 10_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with peer(answers(head + packed)) as near:
        outcome = await get(egress, near.url(), limit=len(packed))
        assert _whole(outcome).body == packed
        assert _whole(outcome).headers["content-encoding"] == "gzip"
        assert b"Accept-Encoding: identity" in _headers(near.requests[0])


@pytest.mark.parametrize(
    ("method", "answer", "status", "body"),
    [
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000000\r\n\r\n", 304, b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n", 200, b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, b""),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
        (
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            200,
            b"hello",
        ),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        ("GET", b"HTTP/1.1 503 Unavailable\r\nContent-Length: 1\r\n\r\nx", 503, b"x"),
    ],
)
async def test_answers_end_where_they_say(
    egress: Egress, method: str, answer: bytes, status: int, body: bytes
) -> None:
    async with peer(answers(answer)) as near:
        for _ in range(2):
            outcome = await call(egress, Outbound(method, near.url(), (), b""))
            assert (_whole(outcome).status, _whole(outcome).body) == (status, body)
        assert near.lines == 1


@pytest.mark.parametrize("framing", [b"", b"Connection: close\r\n"])
async def test_an_answer_without_a_length_ends_with_its_connection(egress: Egress, framing: bytes) -> None:
    async with peer(hangs_up_after(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\nto the end")) as near:
        assert _whole(await get(egress, near.url())).body == b"to the end"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"+OK POP3\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"Content-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 " + b"x" * 20_000 + b"\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_what_is_no_answer_is_broken_at_once_and_its_connection_closed(
    egress: Egress, answer: bytes
) -> None:
    async with peer(answers(answer)) as near:
        for _ in range(2):
            outcome = await get(egress, near.url())
            assert isinstance(outcome, Unknown)
            assert outcome.code is Code.UPSTREAM_BROKEN
        assert near.lines == 2


async def test_a_long_header_is_an_answer_still(egress: Egress) -> None:
    async with peer(answers(b"HTTP/1.1 204 No\r\nX-Long: " + b"x" * 16_000 + b"\r\n\r\n")) as near:
        assert len(_whole(await get(egress, near.url())).headers["x-long"]) == 16_000


async def test_header_bytes_can_be_had_back(egress: Egress) -> None:
    raw = "grün ".encode() + b"\xff\xfe"
    async with peer(answers(b"HTTP/1.1 200 OK\r\nX-Odd: " + raw + b"\r\nContent-Length: 0\r\n\r\n")) as near:
        value = _whole(await get(egress, near.url())).headers["x-odd"]
        assert value.encode("utf-8", "surrogateescape") == raw


async def test_cookies_are_not_kept(egress: Egress) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nSet-Cookie: \x01=;;=\r\nContent-Length: 0\r\n\r\n"
    )
    async with peer(answers(answer)) as near:
        for _ in range(2):
            await get(egress, near.url(host="localhost"))
        assert all(b"cookie" not in request.lower() for request in near.requests)
        assert len(near.requests) == 2


def _headers(request: bytes) -> list[bytes]:
    return request.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]


def _whole(outcome: Outcome) -> Answer:
    assert isinstance(outcome, Answer), outcome
    return outcome
