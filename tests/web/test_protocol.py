"""What a peer owes the server before a request is one."""

import asyncio
import socket
from contextlib import AsyncExitStack, suppress
from io import BytesIO

import pytest
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override

from app.edge.body import Gone, read_body
from app.web.protocol import BoundedHttpProtocol
from tests.web.serving import PATIENCE, Peer, ask, connected, serving

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Hasty(BoundedHttpProtocol):
    """Waits for nobody."""

    head_seconds = 0.15
    linger_seconds = 0.1
    write_seconds = 0.15


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body, and as a header with the names of the request's headers."""
    body = await read_body(scope, receive, limit=1_000_000, seconds=PATIENCE)
    assert isinstance(body, bytes)
    names = b",".join(name for name, _ in scope["headers"])
    await reply(send, body, (b"got", names))


async def reply(send: Send, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


# Time


async def test_a_silent_connection_is_closed_silently() -> None:
    async with serving(echo, Hasty) as port, connected(port) as peer:
        assert await peer.rest() == b""


async def test_half_a_head_is_answered_408() -> None:
    async with serving(echo, Hasty) as port, connected(port) as peer:
        await peer.send(b"GET / HTTP/1.1\r\nHo")
        answer = await peer.answer()
        assert (answer.status, answer.problem["code"]) == (408, "REQUEST_TIMEOUT")
        assert await peer.rest() == b""


async def test_a_slow_loris_is_not_kept_by_feeding_it() -> None:
    async with serving(echo, Hasty) as port, connected(port) as peer:
        await peer.send(b"GET / HTTP/1.1\r\n")
        assert b"408 Request Timeout" in await dribbled(peer.reader, peer.writer, b"A: b\r\n")


async def test_empty_lines_are_no_head() -> None:
    async with serving(echo, Hasty) as port, connected(port) as peer:
        await peer.send(GET)
        await peer.answer()
        assert await dribbled(peer.reader, peer.writer, b"\r\n") == b""


async def dribbled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, drop: bytes) -> bytes:
    """Writes `drop` every 10 ms until the server closes; what it said."""
    said = b""
    async with asyncio.timeout(PATIENCE):
        while not reader.at_eof():
            with suppress(ConnectionError):
                writer.write(drop)
            with suppress(TimeoutError):
                said += await asyncio.wait_for(reader.read(1000), 0.01)
    return said


async def test_the_next_head_on_a_kept_connection_has_a_deadline_too() -> None:
    async with serving(echo, Hasty) as port, connected(port) as peer:
        await peer.send(GET)
        assert (await peer.answer()).status == 200
        await peer.send(b"GET /")
        assert (await peer.answer()).status == 408


async def test_an_answer_that_takes_longer_than_any_of_it_is_awaited() -> None:
    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        await asyncio.sleep(Hasty.head_seconds * 2)
        await reply(send, b"late")

    async with serving(slow, Hasty, timeout_keep_alive=0.1) as port, connected(port) as peer:
        for _ in range(2):
            await peer.send(GET)
            assert (await peer.answer()).body == b"late"


async def test_the_deadline_is_for_the_head_alone() -> None:
    async with serving(echo, Hasty) as port, connected(port) as peer:
        await peer.send(HEAD + b"Content-Length: 8\r\n\r\nhalf")
        await asyncio.sleep(Hasty.head_seconds * 2)
        await peer.send(b"half")
        assert (await peer.answer()).body == b"halfhalf"


async def test_a_body_that_nobody_reads_ends_with_its_deadline() -> None:
    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await reply(send, b"no")

    async with serving(refuse, Hasty) as port, connected(port) as peer:
        await peer.send(HEAD + b"Content-Length: 1000000\r\n\r\n")
        assert (await peer.answer()).body == b"no"
        assert await dribbled(peer.reader, peer.writer, b"x") == b""


async def test_a_refused_body_that_ends_in_time_leaves_the_connection_usable() -> None:
    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await reply(send, b"no")

    async with serving(refuse) as port, connected(port) as peer:
        await peer.send(HEAD + b"Content-Length: 300000\r\n\r\n")
        assert (await peer.answer()).body == b"no"
        await peer.send(b"x" * 300_000 + GET)
        assert (await peer.answer()).body == b"no"


async def test_a_peer_that_does_not_read_is_cut_off() -> None:
    ended = asyncio.Event()

    async def flood(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.ensure_future(receive())
        while not gone.done():
            await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
        ended.set()

    async with serving(flood, Hasty) as port:
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(GET)
            await asyncio.wait_for(ended.wait(), PATIENCE)


class Narrow(Hasty):
    """Has room for a few KB in the kernel, so that the rest of an answer stays with us, below the high-water mark."""

    lost: asyncio.Event

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        super().connection_made(transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
async def test_a_peer_that_leaves_our_last_bytes_unread_is_cut_off(connection: str) -> None:
    async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
        await reply(send, bytes(60_000))

    Narrow.lost = asyncio.Event()
    async with serving(large, Narrow, timeout_keep_alive=0.1) as port:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", port))
            deaf.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: %b\r\n\r\n" % connection.encode())
            await asyncio.wait_for(Narrow.lost.wait(), PATIENCE)


async def test_a_refused_peer_that_goes_on_sending_is_cut_off() -> None:
    async with serving(echo, Hasty) as port, connected(port) as peer:
        await peer.send(b"nonsense\r\n")
        assert (await peer.answer()).status == 400
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(pestering(peer), PATIENCE)


async def pestering(peer: Peer) -> None:
    while True:
        await peer.send(b"more")
        await asyncio.sleep(0.01)


# Room


class Small(Hasty):
    at_most = 3
    refused_at_most = 2


async def test_whoever_finds_no_room_is_told_so_until_somebody_leaves() -> None:
    async with serving(echo, Small) as port, AsyncExitStack() as others:
        for _ in range(Small.at_most):
            guest = await others.enter_async_context(connected(port))
            await guest.send(GET)
            assert (await guest.answer()).status == 200
        answer = await ask(port, GET)
        assert (answer.status, answer.problem["code"]) == (503, "UNAVAILABLE")
        assert answer.headers["connection"] == "close"
        await others.aclose()
        async with asyncio.timeout(PATIENCE):
            while (await ask(port, GET)).status == 503:
                pass


async def test_the_turned_away_take_no_room_for_long() -> None:
    async with serving(echo, Small) as port, AsyncExitStack() as others:
        guests = [await others.enter_async_context(connected(port)) for _ in range(12)]
        said = [await guest.rest() for guest in guests[Small.at_most :]]
        assert all(each == b"" or b" 503 " in each.split(b"\r\n")[0] for each in said)
        assert sum(each != b"" for each in said) == Small.refused_at_most


# Size


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 33_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 33_000,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 300_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 6_000 + b"\r\n",
        b"GET /" + b"x" * 33_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /" + b"x" * 33_000,
        b"\r\n" * 20_000,
    ],
    ids=["line", "unfinished line", "long line", "lines", "target", "unfinished target", "empty lines"],
)
async def test_a_head_over_the_limit_is_answered_431(head: bytes) -> None:
    async with serving(echo) as port, connected(port) as peer:
        await peer.send(head)
        answer = await peer.answer()
        assert (answer.status, answer.problem["code"]) == (431, "REQUEST_TOO_LARGE")
        assert answer.headers["connection"] == "close"
        assert await peer.rest() == b""


async def test_the_limit_is_for_a_head_not_for_a_connection_or_a_body() -> None:
    almost = b"X: " + b"x" * 32_000 + b"\r\n"
    async with serving(echo) as port, connected(port) as peer:
        for _ in range(3):
            await peer.send(HEAD + almost + b"Content-Length: 100000\r\n\r\n" + b"y" * 100_000)
            assert (await peer.answer()).body == b"y" * 100_000
            for _ in range(2):
                await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + almost + b"\r\n")
                assert (await peer.answer()).status == 200


async def test_a_body_in_pieces_of_one_byte_is_well_formed() -> None:
    async with serving(echo) as port:
        body = b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n"
        answer = await ask(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        assert answer.body == b"x" * 50_000


@pytest.mark.parametrize(
    "start",
    [b"5;", b"0\r\nX: ", b"C350\r\n" + b"y" * 50_000 + b"\r\n0\r\nX: "],
    ids=["chunk extension", "trailer", "trailer of a long body"],
)
async def test_what_surrounds_a_body_is_limited(start: bytes) -> None:
    async with serving(echo) as port, connected(port) as peer:
        await peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + start + b"x" * 300_000)
        assert (await peer.answer()).status == 431
        assert await peer.rest() == b""


async def test_trailers_do_not_become_headers() -> None:
    trailer = b"5\r\nhello\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    async with serving(echo) as port:
        answer = await ask(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + trailer)
    assert (answer.body, answer.headers["got"]) == (b"hello", "host,transfer-encoding")


# Form


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key", "Idempotency-Key", "Content-Encoding"])
async def test_a_header_that_decides_comes_once(name: str) -> None:
    once = f"GET / HTTP/1.1\r\nHost: a\r\n{name}: one\r\n"
    async with serving(echo) as port:
        assert (await ask(port, f"{once}X-Other: 1\r\nX-Other: 2\r\n\r\n".encode())).status == 200
        for second in ("one", "two", ""):
            answer = await ask(port, f"{once}X-Other: 1\r\n{name.lower()}: {second}\r\n\r\n".encode())
            assert (answer.status, answer.problem["code"]) == (400, "BAD_USER_INPUT")
            assert "more than once" in answer.problem["detail"]


async def test_a_handshake_cannot_repeat_such_a_header_either() -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n"
    async with serving(echo) as port:
        answer = await ask(port, f"GET / HTTP/1.1\r\nHost: a\r\n{upgrade}".encode())
        assert answer.status == 400


MALFORMED = {
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "one length twice": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length and chunked": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "coded chunks": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "space before colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "signed length": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "list of lengths": HEAD + b"Content-Length: 5,5\r\n\r\nhello",
    "huge length": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    "body with h2c": HEAD + b"Content-Length: 5\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nhello",
    "body with WebSocket": HEAD
    + b"Content-Length: 5\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "folded line": b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: a\n\n",
    "zero byte": b"GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "8-bit target": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "target without path": b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no HTTP": b"GET GET GET",
}


@pytest.mark.parametrize("request_", list(MALFORMED.values()), ids=list(MALFORMED))
async def test_a_malformed_request_is_answered_400_and_reaches_nobody(
    request_: bytes, lines: BytesIO
) -> None:
    async def never(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("served")

    async with serving(never) as port, connected(port) as peer:
        await peer.send(request_)
        answer = await peer.answer()
        assert (answer.status, answer.problem["code"]) == (400, "BAD_USER_INPUT")
        assert answer.headers["connection"] == "close"
        assert await peer.rest() == b""
    assert b"Traceback" not in lines.getvalue()


async def test_a_body_that_turns_malformed_is_answered_400_and_its_endpoint_let_go() -> None:
    outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def reading(scope: Scope, receive: Receive, _send: Send) -> None:
        outcome.set_result(await read_body(scope, receive, limit=100, seconds=PATIENCE))

    async with serving(reading) as port:
        answer = await ask(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n")
        assert answer.status == 400
        assert isinstance(await outcome, Gone)


async def test_an_endpoint_whose_body_was_refused_says_no_more(lines: BytesIO) -> None:
    release, ended = asyncio.Event(), asyncio.Event()

    async def held(_scope: Scope, _receive: Receive, send: Send) -> None:
        await release.wait()
        await reply(send, b"too late")
        ended.set()

    async with serving(held) as port, connected(port) as peer:
        await peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")
        assert (await peer.answer()).status == 400
        release.set()
        await asyncio.wait_for(ended.wait(), PATIENCE)
        assert await peer.rest() == b""
    assert lines.getvalue().count(b"Traceback") == 0


async def test_a_websocket_behind_an_answer_that_is_under_way_is_not_opened() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def held(scope: Scope, _receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        asked.set()
        await release.wait()
        await reply(send, b"mine")

    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with serving(held) as port, connected(port) as peer:
        await peer.send(GET + upgrade)
        await asyncio.wait_for(asked.wait(), PATIENCE)
        release.set()
        assert (await peer.rest()).endswith(b"mine")


async def test_an_upgrade_that_we_do_not_speak_is_ignored_and_closes() -> None:
    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    async with serving(echo) as port, connected(port) as peer:
        await peer.send(upgrade + GET)
        assert (await peer.answer()).headers["connection"] == "close"
        assert await peer.rest() == b""


async def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    async with serving(echo) as port, connected(port) as peer:
        await peer.send(HEAD + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await peer.send(b"hello")
        assert (await peer.answer()).body == b"hello"


async def test_a_client_that_is_refused_before_it_continues_is_closed() -> None:
    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await reply(send, b"no")

    async with serving(refuse) as port, connected(port) as peer:
        await peer.send(HEAD + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n")
        assert (await peer.answer()).headers["connection"] == "close"
        assert await peer.rest() == b""


# One after the other


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(echo) as port, connected(port) as peer:
        await peer.send(b"".join(HEAD + b"Content-Length: 1\r\n\r\n%d" % i for i in range(9)))
        assert [(await peer.answer()).body for _ in range(9)] == [b"%d" % i for i in range(9)]


async def test_too_many_pipelined_requests_close_the_connection_after_the_first_ones() -> None:
    async with serving(echo) as port, connected(port) as peer:
        await peer.send(GET * 1000)
        said = await peer.rest()
        assert said.count(b"200 OK") == 1 + BoundedHttpProtocol.pipelined
        assert said.count(b"HTTP/1.1") == said.count(b"200 OK")


async def test_nonsense_after_a_request_waits_for_its_answer() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def held(_scope: Scope, _receive: Receive, send: Send) -> None:
        asked.set()
        await release.wait()
        await reply(send, b"mine")

    async with serving(held) as port, connected(port) as peer:
        await peer.send(GET + b"nonsense\r\n\r\n")
        await asyncio.wait_for(asked.wait(), PATIENCE)
        release.set()
        assert (await peer.rest()).endswith(b"mine")


async def test_a_running_request_hears_of_the_disconnect_behind_a_pipelined_one() -> None:
    running: asyncio.Queue[Message] = asyncio.Queue()
    started = asyncio.Event()

    async def listening(_scope: Scope, receive: Receive, _send: Send) -> None:
        await receive()
        started.set()
        running.put_nowait(await receive())

    async with serving(listening) as port:
        async with connected(port) as peer:
            await peer.send(GET + GET)
            await asyncio.wait_for(started.wait(), PATIENCE)
        assert await asyncio.wait_for(running.get(), PATIENCE) == {"type": "http.disconnect"}
