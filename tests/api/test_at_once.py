"""What one tenant has under way leaves room for the others, and is let go however it ends."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import orjson
import pytest_asyncio
from websockets.exceptions import ConnectionClosed

from app.api.at_once import READS, FairShare
from app.rules.ids import BootId
from app.settings import Settings
from app.store.engine import Store, Tx
from app.store.installation import make_store
from app.store.keys import new_id
from tests.api.conftest import KEY, Connecting, Crowded, Socket
from tests.api.test_sse import events, opened
from tests.api.test_ws import error, next_, subscribe
from tests.api.toy import WORLD

NEVER = 'subscription { never(name: "crowd") }'
BOB = {"apiKey": "cgk_bob"}


async def _fill(*sockets: Socket) -> None:
    for n in range(Crowded.most_streams):
        socket = sockets[n % len(sockets)]
        await socket.send(subscribe(str(n), NEVER))
        assert await socket.receive() == next_(str(n), never=0)


async def test_one_operation_too_many_is_refused_on_whichever_connection(ws: Connecting) -> None:
    async with ws(path="/crowded") as one, ws(path="/crowded") as two, ws(BOB, "/crowded") as other:
        await _fill(one, two)
        for socket in (one, two):
            await socket.send(subscribe("more", "{ hello }"))
            assert await error(socket, "more") == "RATE_LIMITED"
        await other.send(subscribe("1", "{ whoami }"))
        assert await other.receive() == next_("1", whoami="bob")
        await one.send({"type": "complete", "id": "0"}, subscribe("more", "{ hello }"))
        assert await one.receive() == next_("more", hello="world")


async def test_operations_are_let_go_however_their_connection_ends(ws: Connecting) -> None:
    for leaves_politely in (True, False):
        async with ws(path="/crowded") as socket:
            await _fill(socket)
            if not leaves_politely:
                socket.raw.transport.abort()
        assert await asyncio.to_thread(WORLD.until, "crowd", runs=False)


async def test_event_streams_count_too_and_say_why_they_end(
    ws: Connecting, http: httpx2.Client, address: str
) -> None:
    headers = {**KEY, "Content-Type": "application/json", "Accept": "text/event-stream"}
    async with ws(path="/crowded") as socket:
        await _fill(socket)
        refused = await asyncio.to_thread(
            http.post, "/crowded", content=orjson.dumps({"query": NEVER}), headers=headers
        )
        [(_, result), last] = events(refused.text)
        assert isinstance(result, dict)
        assert result["errors"][0]["extensions"] == {"code": "RATE_LIMITED"}
        assert last == ("complete", None)
    assert await asyncio.to_thread(WORLD.until, "crowd", runs=False)
    for _ in range(Crowded.most_streams + 1):
        async with opened(address, NEVER, "/crowded") as response:
            assert await anext(response.aiter_lines()) == "event: next"
        assert await asyncio.to_thread(WORLD.until, "crowd", runs=False)


async def test_one_connection_too_many_is_told_to_come_later(ws: Connecting) -> None:
    async with ws(path="/crowded") as one, ws(path="/crowded"):
        async with ws(init=None, path="/crowded") as third:
            await third.send({"type": "connection_init", "payload": {"apiKey": "cgk_alice"}})
            assert await third.closed() == 1013
            assert "WebSockets at once" in (third.raw.close_reason or "")
        async with ws(BOB, "/crowded"):
            pass
        await one.raw.close()
        await _connected(ws)
    for _ in range(Crowded.most_connections + 1):
        await _connected(ws, abort=True)


async def _connected(ws: Connecting, *, abort: bool = False) -> None:
    """Connects, as soon as the server has noticed that somebody left."""
    async with asyncio.timeout(30):
        while True:
            async with ws(init=None, path="/crowded") as socket:
                await socket.send({"type": "connection_init", "payload": {"apiKey": "cgk_alice"}})
                try:
                    await socket.receive()
                except ConnectionClosed:
                    continue
                if abort:
                    socket.raw.transport.abort()
                return


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    # SQLite's readers are threads, so a query may block one of them for as long as a test likes.
    store = make_store(Settings(data_dir=tmp_path), BootId(new_id("bot")), serves=True)
    await store.migrate()
    yield store
    await store.close()


async def test_a_tenant_whose_queries_take_long_leaves_a_reader_to_the_others(store: Store) -> None:
    may_end, began = threading.Event(), threading.Semaphore(0)

    def long(_: Tx) -> str:
        began.release()
        may_end.wait()
        return "long"

    greedy, modest = FairShare(store), FairShare(store)
    waiting = [asyncio.ensure_future(greedy.read(long)) for _ in range(5)]
    try:
        for _ in range(READS):
            assert await asyncio.to_thread(began.acquire, timeout=30)
        assert await asyncio.wait_for(modest.read(lambda _: "short"), 30) == "short"
    finally:
        may_end.set()
    assert await asyncio.gather(*waiting) == ["long"] * 5


async def test_a_read_that_is_given_up_gives_its_turn_to_the_next(store: Store) -> None:
    reads = FairShare(store)
    for _ in range(READS + 1):
        given_up = asyncio.ensure_future(reads.read(lambda _: "x"))
        await asyncio.sleep(0)
        given_up.cancel()
    assert await asyncio.wait_for(reads.read(lambda _: "y"), 30) == "y"
