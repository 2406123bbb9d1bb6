"""What a peer without a key may do with an open WebSocket: little."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from starlette.types import Receive, Scope, Send
from typing_extensions import override
from websockets.asyncio.client import connect

from app.edge.frames import TEXTS
from app.web.websocket import BoundedWebSocketProtocol
from tests.web.serving import PATIENCE, serving

SHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
PING, PART, START, TEXT = 0x89, 0x00, 0x01, 0x81
ENOUGH = 2 * 1024 * 1024  # bytes: far more than the kernel keeps for sockets as narrow as these


class Narrow(BoundedWebSocketProtocol):
    """Has room for a few KB in the kernel, so that what a peer does not read stays with us."""

    opened: "asyncio.Queue[Narrow]"
    lost: asyncio.Event
    late: asyncio.Event

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        super().connection_made(transport)
        self.lost, self.late = asyncio.Event(), asyncio.Event()
        self.opened.put_nowait(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()

    @override
    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.late.set()


class Uncounted(Narrow):
    """Takes any number of frames."""

    most_frames = 10**9


class Hasty(Narrow):
    write_seconds = 0.1


async def patient(_scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts, and waits for whatever comes."""
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    """Says what it is told."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def frame(kind: int, payload: bytes = b"") -> bytes:
    """As a client sends it: masked, with a key of zeros."""
    length = len(payload)
    head = bytes([kind, 0x80 | length]) if length < 126 else bytes([kind, 0xFE]) + length.to_bytes(2, "big")
    return head + bytes(4) + payload


@asynccontextmanager
async def shaken(port: int) -> AsyncIterator[socket.socket]:
    """A raw connection with little room, on which the handshake is complete."""
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(peer, ("127.0.0.1", port))
        await loop.sock_sendall(peer, SHAKE)
        head = await taken(peer, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        yield peer


async def taken(peer: socket.socket, end: bytes = b"") -> bytes:
    """What the peer gets until `end`, or until the server closes."""
    said = bytearray()
    async with asyncio.timeout(PATIENCE):
        while not (end and said.endswith(end)):
            try:
                more = await asyncio.get_running_loop().sock_recv(peer, 65_536)
            except ConnectionResetError:
                break
            if not more:
                break
            said += more
    return bytes(said)


async def flood(peer: socket.socket, data: bytes) -> None:
    """Sends it in a thread, as fast as the kernel takes it, until all is gone or the server has hung up."""

    def send() -> None:
        with peer.dup() as blocking, suppress(OSError):
            blocking.settimeout(PATIENCE)
            blocking.sendall(data)

    await asyncio.to_thread(send)


async def longest_turn(until: "asyncio.Future[None]") -> float:
    """The seconds for which the loop left others waiting at most."""
    loop = asyncio.get_running_loop()
    longest, before = 0.0, loop.time()
    while not until.done():
        await asyncio.sleep(0)
        longest, before = max(longest, loop.time() - before), loop.time()
    return longest


@pytest.fixture(autouse=True)
def connections() -> None:
    Narrow.opened = asyncio.Queue()


@pytest.mark.parametrize("start", [b"", frame(START)], ids=["pings", "parts"])
async def test_frames_without_end_leave_the_loop_to_others(start: bytes) -> None:
    kind = PART if start else PING
    async with serving(patient, ws=Uncounted) as port, shaken(port) as peer:
        reading = asyncio.ensure_future(taken(peer))
        flooding = asyncio.ensure_future(flood(peer, start + frame(kind) * (ENOUGH // 6)))
        assert await longest_turn(flooding) < 0.1
        reading.cancel()


@pytest.mark.parametrize("start", [b"", frame(START)], ids=["pings", "parts"])
async def test_too_many_frames_that_say_nothing_close_with_1008(start: bytes) -> None:
    kind = PART if start else PING
    async with serving(patient, ws=Narrow) as port, shaken(port) as peer:
        await flood(peer, start + frame(kind) * (Narrow.most_frames + 1))
        said = await taken(peer)
        assert b"\x88\x11" + (1008).to_bytes(2, "big") in said[-19:]


async def test_a_flood_is_cut_short() -> None:
    async with serving(patient, ws=Narrow) as port, shaken(port) as peer:
        flooding = asyncio.ensure_future(flood(peer, frame(PING) * (ENOUGH // 6)))
        said = await taken(peer)
        assert len(said) < 2 * (Narrow.most_frames + Narrow.at_a_time) + 50
        await flooding


async def test_as_many_messages_as_one_likes_are_taken_in_order() -> None:
    texts = [b"%04d" % n for n in range(2_000)]
    async with serving(echo, ws=Narrow) as port, shaken(port) as peer:
        flooding = asyncio.ensure_future(flood(peer, b"".join(frame(TEXT, text) for text in texts)))
        said = await taken(peer, end=texts[-1])
        assert said == b"".join(b"\x81\x04" + text for text in texts)
        await flooding


async def test_a_message_longer_than_a_piece_arrives_whole() -> None:
    text = b"".join(b"%07d," % n for n in range(8_000))
    async with serving(echo, ws=Narrow) as port, shaken(port) as peer:
        flooding = asyncio.ensure_future(flood(peer, frame(TEXT, text)))
        assert (await taken(peer, end=text[-8:])).endswith(text)
        await flooding


async def test_pongs_that_nobody_reads_do_not_pile_up() -> None:
    ping = frame(PING, b"p" * 125)
    pings = ENOUGH // len(ping)
    async with serving(patient, ws=Uncounted) as port, shaken(port) as peer:
        flooding = asyncio.ensure_future(flood(peer, ping * pings))
        ours = await Narrow.opened.get()
        async with asyncio.timeout(PATIENCE):
            while ours.writable.is_set() or ours.transport.is_reading():  # noqa: ASYNC110  # announced by nobody
                await asyncio.sleep(0)
        assert ours.transport.get_write_buffer_size() < 128 * 1024
        pongs = b"\x8a\x7d" + b"p" * 125
        async with asyncio.timeout(PATIENCE):
            said = b""
            while len(said) < pings * len(pongs):
                said += await asyncio.get_running_loop().sock_recv(peer, 65_536)
        assert said == pongs * pings
        await flooding


async def test_whoever_has_not_read_our_ping_yet_is_not_late_with_the_pong() -> None:
    async def large(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "text": "x" * 1_000_000})
        await receive()

    hasty = serving(large, ws=Narrow, ws_ping_interval=0.1, ws_ping_timeout=0.1)
    async with hasty as port, shaken(port) as peer:
        await flood(peer, frame(TEXT, b"go"))
        ours = await Narrow.opened.get()
        await asyncio.wait_for(ours.late.wait(), PATIENCE)
        assert not ours.transport.is_closing()


async def test_frames_before_the_handshake_is_complete_wait_for_it() -> None:
    accepted = asyncio.Event()

    async def slow(_scope: Scope, receive: Receive, send: Send) -> None:
        await accepted.wait()
        await patient(_scope, receive, send)

    async with serving(slow, ws=Narrow) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(SHAKE)
        ours = await asyncio.wait_for(Narrow.opened.get(), PATIENCE)
        writer.write(frame(PING, b"early"))
        async with asyncio.timeout(PATIENCE):
            while ours.transport.is_reading():  # noqa: ASYNC110  # announced by nobody
                await asyncio.sleep(0)
            accepted.set()
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(7) == b"\x8a\x05early"
        writer.close()


async def test_a_peer_that_leaves_our_last_bytes_unread_is_cut_off() -> None:
    async def brief(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "text": "x" * 60_000})

    async with serving(brief, ws=Hasty) as port, shaken(port) as peer:
        await flood(peer, frame(TEXT, b"go"))
        ours = await Narrow.opened.get()
        await asyncio.wait_for(ours.lost.wait(), PATIENCE)


SIZES = (0, 125, 126, 65_535, 65_536, 200_000)


async def says_much(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends a message of each size, all at once."""
    assert TEXTS in scope["extensions"]
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "texts": [b"x" * size for size in SIZES]})
    await send({"type": "websocket.send", "text": "the usual way"})
    await send({"type": "websocket.close"})


@pytest.mark.parametrize("compressed", [True, False])
async def test_many_messages_leave_in_one_write_as_one_frame_each(compressed: bool) -> None:
    async with (
        serving(says_much) as port,
        connect(f"ws://127.0.0.1:{port}", compression="deflate" if compressed else None) as socket,
    ):
        assert [len(message) async for message in socket] == [*SIZES, len("the usual way")]
