"""What many subscribers share, and what each has for itself: its key, its place, its pace."""

import asyncio
import random
import socket
from collections import Counter
from contextlib import aclosing, suppress
from typing import Any

import orjson
import pytest
from sqlalchemy import update
from strawberry.types import ExecutionResult
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from app.api import batches, groups
from app.api.answers import encoded
from app.api.at_once import FairShare
from app.api.followers import Follower
from app.api.live import Live
from app.api.pages import log_of
from app.ledger.append import append, own
from app.ledger.wake import Wake
from app.rules.entries import Event
from app.rules.ids import TenantId
from app.rules.permissions import Role
from app.store.engine import Tx
from app.store.tables import ApiKey
from tests.conftest import FULL
from tests.counting import counting, reads_of_a_ledger
from tests.postgres import Postgres
from tests.server.client import ask, data
from tests.server.conftest import Here, House, Opening, lending_in, opened_here
from tests.server.lending import Loan
from tests.server.streams import (
    EVENTS,
    LAST,
    REVOKE_KEY,
    Edge,
    Ended,
    Transport,
    _over_sse,
    a_key,
    events,
    logged,
    streaming,
    taken,
    writing,
)
from tests.serving import Installation
from tests.upstreams import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRANSPORTS = pytest.mark.parametrize("transport", ["ws", "sse", "multipart"])
CUTS = 500 if FULL else 15


async def act(port: int, loan: Loan) -> str:
    answer = await ask(port, "GET", loan.at(), [loan.bearer])
    assert answer.status == 200
    return str(answer.dispatch_id)


@TRANSPORTS
async def test_what_arrives_over_many_cuts_is_the_ledger(
    house: House, service: Upstream, transport: Transport
) -> None:
    loan = await house.lending.loan(service.port)
    start = (await logged(house.port, loan.delegator))[-1]["cursor"]
    edges: list[Edge] = []
    after = start
    async with writing(house.port, loan):
        for _ in range(CUTS):
            edges += await taken(
                events(house.port, loan.delegator.key, transport, after=after), random.randint(1, 9)
            )
            after = edges[-1]["cursor"]
    whole = await logged(house.port, loan.delegator, start)
    left = len(whole) - len(edges)
    edges += await taken(events(house.port, loan.delegator.key, transport, after=after), left)
    assert edges == whole


@TRANSPORTS
async def test_what_arrives_over_a_killed_server_is_the_ledger(
    tmp_path_factory: pytest.TempPathFactory, service: Upstream, transport: Transport
) -> None:
    installation = Installation(tmp_path_factory.mktemp("killed"))
    async with lending_in(installation) as lending:
        async with installation.serving() as served:
            loan = await lending.loan(service.port)
            edges = await logged(served.port, loan.delegator)
            with suppress(Exception):  # however the connection breaks
                stream = events(served.port, loan.delegator.key, transport, after=edges[-1]["cursor"])
                async with aclosing(stream):
                    for _ in range(5):
                        await act(served.port, loan)
                        edges.append(await anext(stream))
                    await act(served.port, loan)
                    await served.kill()
                    async for edge in stream:
                        edges.append(edge)
        async with installation.serving() as served:
            whole = await logged(served.port, loan.delegator)
            after, left = edges[-1]["cursor"], len(whole) - len(edges)
            edges += await taken(events(served.port, loan.delegator.key, transport, after=after), left)
            assert edges == whole


@pytest.mark.parametrize("pauses", [False, True], ids=["without pauses", "real"])
async def test_what_one_tenant_follows_by_many_operations_leaves_the_loop_to_others(
    here: Opening, monkeypatch: pytest.MonkeyPatch, pauses: bool
) -> None:
    if not pauses:
        monkeypatch.setattr(FairShare, "pause", _no_pause)
    answers = _answers_in_each_turn(monkeypatch)
    async with here() as house:
        member = await house.lending.tenant()
        await a_key(house.lending, member)  # which is an entry: whoever has got it has begun
        place = (await logged(house.port, member))[0]["cursor"]
        await a_key(house.lending, member)
        asked: list[dict[str, object]] = [
            {"query": f"subscription S{n} {PLACES}", "variables": {"after": place}} for n in range(10)
        ]
        streams = [_over_sse(house.port, member.key, each) for each in asked]
        await asyncio.gather(*(anext(stream) for stream in streams))
        await house.lending.write(_grown, member.id, 20)
        await asyncio.gather(*(taken(stream, 20) for stream in streams))
    assert sum(answers.values()) >= 10 * 20
    assert (max(answers.values()) <= 2) is pauses


PLACES = "($after: String) { delegationEvents(after: $after) { cursor node { seq } } }"


async def _no_pause(_: FairShare) -> None:
    pass


def _answers_in_each_turn(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How many answers were made in each turn of the event loop, from now on."""
    loop, counted, turn = asyncio.get_running_loop(), Counter[int](), 0

    def encoded_here(result: ExecutionResult) -> bytes:
        counted[turn] += 1
        return encoded(result)

    def turned() -> None:
        nonlocal turn
        turn += 1
        if turn < 1_000_000:
            loop.call_soon(turned)

    for module in (batches, groups):
        monkeypatch.setattr(module, "encoded", encoded_here)
    turned()
    return counted


def _grown(tx: Tx, tenant_id: TenantId, count: int) -> None:
    append(tx, [own(Event.AGENT_UPDATED, tenant_id, "test", tx.now()) for _ in range(count)])


async def test_subscribers_whose_cursors_say_more_than_where_they_begin_share_nothing(
    house: House, service: Upstream
) -> None:
    loan = await house.lending.loan(service.port)
    edges = await logged(house.port, loan.delegator)
    places = [edge["cursor"] for edge in edges if edge["node"]["delegation"]][-2:]
    # A blank may stand between the dollar and the name.
    query = (
        "subscription ($after: String) { delegationEvents(after: $after) { cursor node "
        "{ seq delegation { audit(first: 1, after: $ after) { edges { cursor } } } } } }"
    )
    asked: list[dict[str, object]] = [{"query": query, "variables": {"after": each}} for each in places]
    own = [await act(house.port, loan) for _ in range(2)]
    streams = [_over_sse(house.port, loan.delegator.key, each) for each in asked]
    for stream, count in zip(streams, (len(own) + 1, len(own)), strict=True):
        for _ in range(count):
            await anext(stream)
    more = [asyncio.ensure_future(anext(stream)) for stream in streams]
    seen: list[Edge] = []
    while not all(each.done() for each in more):
        await act(house.port, loan)
        await asyncio.wait(more, timeout=0.1)
    for stream in streams:
        for _ in range(3):
            await act(house.port, loan)
            seen.append(await anext(stream))
    shown = [each["node"]["delegation"]["audit"]["edges"][0]["cursor"] for each in seen]
    assert set(shown[:3]).isdisjoint(shown[3:])
    for stream in streams:
        await stream.aclose()


async def test_an_event_stream_resumes_after_last_event_id(house: House, service: Upstream) -> None:
    loan = await house.lending.loan(service.port)
    ids = [await act(house.port, loan) for _ in range(3)]
    key = loan.delegator.key
    place: dict[str, object] = {"query": EVENTS, "variables": {}}
    [cursor] = [
        edge["cursor"]
        for edge in await logged(house.port, loan.delegator)
        if edge["node"]["dispatchId"] == ids[0]
    ]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": cursor}
    async with streaming(house.port, key, place, **headers) as answer:
        lines = answer.aiter_lines()
        event = [await anext(lines) for _ in range(4)]
    edge = orjson.loads(event[2].removeprefix("data: "))["data"]["delegationEvents"]
    assert event == ["event: next", f"id: {edge['cursor']}", event[2], ""]
    assert edge["node"]["dispatchId"] == ids[1]
    with pytest.raises(Ended, match="BAD_USER_INPUT"):
        await taken(_over_sse(house.port, key, place, **{"Last-Event-ID": "of another stream"}), 1)


@TRANSPORTS
async def test_a_place_that_is_none_in_the_log_is_refused(house: House, transport: Transport) -> None:
    member, other = [await house.lending.tenant() for _ in range(2)]
    for each in (member, other):
        await a_key(house.lending, each)  # which is an entry
    [foreign, own] = [(await data(house.port, each.key, LAST))["edges"][0] for each in (other, member)]
    assert foreign["node"] == own["node"], "as far as it goes it would be one here too"
    beyond = log_of(TenantId(member.id)).cursor(own["node"]["seq"] + 1)
    for cursor in (foreign["cursor"], beyond, "nonsense", ""):
        with pytest.raises(Ended, match="BAD_USER_INPUT"):
            await taken(events(house.port, member.key, transport, after=cursor), 1)


# -- shared


@pytest.mark.parametrize("store_kind", ["sqlite"])
async def test_a_ledger_is_read_once_for_all_its_subscribers(here: Opening, service: Upstream) -> None:
    rounds, subscribers = 10, 30
    async with here() as it:
        loan = await it.lending.loan(service.port)
        keys = [loan.delegator.key, *[(await a_key(it.lending, loan.delegator))[0] for _ in range(2)]]
        streams = [
            events(it.port, keys[number % 3], ("ws", "sse", "multipart")[number // 3 % 3])
            for number in range(subscribers)
        ]
        first = [asyncio.ensure_future(anext(stream)) for stream in streams]
        last = ""
        while not all(each.done() for each in first):
            last = await act(it.port, loan)
        for stream, edge in zip(streams, first, strict=True):
            while (await edge)["node"]["dispatchId"] != last:
                edge = asyncio.ensure_future(anext(stream))  # noqa: PLW2901  # the next of its edges
        with counting() as statements:
            for _ in range(rounds):
                id = await act(it.port, loan)
                came = await asyncio.gather(*map(anext, streams))
                assert {edge["node"]["dispatchId"] for edge in came} == {id}
        assert rounds <= reads_of_a_ledger(statements) <= 3 * rounds
        for stream in streams:
            await stream.aclose()


@pytest.mark.parametrize("store_kind", ["sqlite"])
async def test_a_tenant_follows_by_so_many_operations_at_most(
    here: Opening, service: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Live, "most_groups", 2)
    async with here() as it:
        loan = await it.lending.loan(service.port)
        key = loan.delegator.key
        start = (await logged(it.port, loan.delegator))[-1]["cursor"]
        one, other, third = (
            [events(it.port, key, "sse", after=start, events=[each]) for _ in range(2)]
            for each in ("delegation.*", "*.action", "delegation.action")
        )
        for _ in range(2):  # the second has come when both have joined the others
            id = await act(it.port, loan)
            for stream in (one[0], other[0]):
                assert (await anext(stream))["node"]["dispatchId"] == id
        with pytest.raises(Ended, match="RATE_LIMITED"):
            await taken(third[0], 3)
        for _ in range(2):
            await anext(one[1])
        await other[0].aclose()
        await one[0].aclose()
        id = await act(it.port, loan)
        assert (await anext(one[1]))["node"]["dispatchId"] == id, "it may be one more of the same"
        await one[1].aclose()


# -- keys


@TRANSPORTS
@pytest.mark.parametrize(("how", "code"), [("revoked", "UNAUTHENTICATED"), ("downgraded", "FORBIDDEN")])
async def test_one_key_ends_and_the_others_go_on(
    house: House, service: Upstream, transport: Transport, how: str, code: str
) -> None:
    loan = await house.lending.loan(service.port)
    key, key_id = await a_key(house.lending, loan.delegator, role=Role.OWNER)
    start = (await logged(house.port, loan.delegator))[-1]["cursor"]
    ending, going = (events(house.port, each, transport, after=start) for each in (key, loan.delegator.key))
    id = await act(house.port, loan)
    for stream in (ending, going):
        assert (await anext(stream))["node"]["dispatchId"] == id
    if how == "revoked":
        await data(house.port, loan.delegator.key, REVOKE_KEY, id=key_id)
    else:
        await house.lending.store.write(_downgrade, key_id)
    ids = [await act(house.port, loan) for _ in range(3)]
    with pytest.raises(Ended, match=code):
        await anext(ending)
    seen = [await anext(going) for _ in range(3 + (how == "revoked"))]
    assert [edge["node"]["dispatchId"] for edge in seen][-3:] == ids
    await going.aclose()


def _downgrade(tx: Tx, key_id: str) -> None:
    tx.execute(update(ApiKey).where(ApiKey.id == key_id).values(role=Role.AUDITOR))


@pytest.mark.parametrize(("role", "code"), [(None, 4401), (Role.VIEWER, 4403)])
async def test_a_socket_whose_key_has_ended_is_closed_as_such(
    house: House, service: Upstream, role: Role | None, code: int
) -> None:
    loan = await house.lending.loan(service.port)
    key, key_id = await a_key(house.lending, loan.delegator)
    protocol = Subprotocol("graphql-transport-ws")
    async with connect(f"ws://127.0.0.1:{house.port}/graphql", subprotocols=[protocol]) as raw:
        payload = {"query": EVENTS, "variables": {}}
        await raw.send(orjson.dumps({"type": "connection_init", "payload": {"apiKey": key}}).decode())
        await raw.send(orjson.dumps({"type": "subscribe", "id": "1", "payload": payload}).decode())
        assert orjson.loads(await raw.recv())["type"] == "connection_ack"
        first = asyncio.ensure_future(raw.recv())
        while not first.done():
            await act(house.port, loan)
        if role is None:
            await data(house.port, loan.delegator.key, REVOKE_KEY, id=key_id)
        else:
            await house.lending.store.write(_demote, key_id, role)
            await act(house.port, loan)
        await raw.wait_closed()
        assert raw.close_code == code


async def test_a_quiet_socket_whose_key_has_ended_is_closed_when_it_asks_for_anything(house: House) -> None:
    acme = await house.lending.tenant()
    key, key_id = await a_key(house.lending, acme)
    protocol = Subprotocol("graphql-transport-ws")
    async with connect(f"ws://127.0.0.1:{house.port}/graphql", subprotocols=[protocol]) as raw:
        await raw.send(orjson.dumps({"type": "connection_init", "payload": {"apiKey": key}}).decode())
        assert orjson.loads(await raw.recv())["type"] == "connection_ack"
        await data(house.port, acme.key, REVOKE_KEY, id=key_id)
        asked = {"type": "subscribe", "id": "1", "payload": {"query": "{ viewer { subject } }"}}
        await raw.send(orjson.dumps(asked).decode())
        said = orjson.loads(await raw.recv())
        assert (said["type"], said["payload"][0]["extensions"]["code"]) == ("error", "UNAUTHENTICATED")
        await raw.wait_closed()
        assert raw.close_code == 4401


def _demote(tx: Tx, key_id: str, role: Role) -> None:
    tx.execute(update(ApiKey).where(ApiKey.id == key_id).values(role=role))


# -- pace

#: Some 30 KB an event: what the system buffers for a peer that does not read is full sooner.
_HASHES = " ".join(f"a{number}: leafHash" for number in range(400))
LARGE = f"subscription ($after: String) {{ delegationEvents(after: $after) {{ cursor node {{ seq {_HASHES} }} }} }}"


@pytest.mark.parametrize("store_kind", ["sqlite"])
@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_who_does_not_read_is_cut_where_it_can_go_on_and_delays_nobody(
    here: Opening, service: Upstream, monkeypatch: pytest.MonkeyPatch, transport: Transport
) -> None:
    monkeypatch.setattr(Follower, "most_waiting", 200_000)
    async with here() as it:
        loan = await it.lending.loan(service.port)
        start = (await data(it.port, loan.delegator.key, LAST))["edges"][0]
        payload: dict[str, object] = {"query": LARGE, "variables": {"after": start["cursor"]}}
        asking = _slow_ws if transport == "ws" else _slow_sse
        reader, slow = await asking(it.port, loan.delegator.key, payload)
        quick = events(it.port, loan.delegator.key, "sse", after=start["cursor"])
        cut = asyncio.Event()
        overflow = Follower._overflow

        def overflows(follower: Follower) -> None:
            overflow(follower)
            cut.set()

        monkeypatch.setattr(Follower, "_overflow", overflows)
        seen, ids = [], []
        while not cut.is_set():
            ids.append(await act(it.port, loan))
            seen.append((await anext(quick))["node"]["dispatchId"])
        assert seen == ids
        whole, error = await (_rest_of_ws if transport == "ws" else _rest_of_sse)(reader)
        slow.close()
        assert error["extensions"]["code"] == "SLOW_READER"
        cursor = error["extensions"]["cursor"]
        assert cursor == whole[-1]["cursor"]
        seqs = [each["node"]["seq"] for each in whole]
        left = start["node"]["seq"] + len(ids) - seqs[-1]
        resumed = await taken(events(it.port, loan.delegator.key, "sse", after=cursor), left)
        seqs += [edge["node"]["seq"] for edge in resumed]
        assert seqs == [start["node"]["seq"] + 1 + number for number in range(len(ids))]
        await quick.aclose()


Slow = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _unhurried(port: int) -> Slow:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=connection, limit=1024)


async def _slow_sse(port: int, key: str, payload: dict[str, object]) -> Slow:
    """A subscriber that has asked and does not read."""
    reader, writer = await _unhurried(port)
    body = orjson.dumps(payload)
    head = (
        "POST /graphql HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        "Content-Type: application/json\r\nConnection: close\r\n"
        f"X-API-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    assert b"200" in await reader.readline()
    return reader, writer


async def _rest_of_sse(reader: asyncio.StreamReader) -> tuple[list[Edge], dict[str, Any]]:
    """The edges and the error at the end, which the server makes."""
    rest = await reader.read()
    *whole, last = [orjson.loads(line[6:]) for line in rest.split(b"\n") if line.startswith(b"data: {")]
    return [each["data"]["delegationEvents"] for each in whole], last["errors"][0]


async def _slow_ws(port: int, key: str, payload: dict[str, object]) -> Slow:
    reader, writer = await _unhurried(port)
    writer.write(
        b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
    )
    while await reader.readline() != b"\r\n":
        pass
    for message in (
        {"type": "connection_init", "payload": {"apiKey": key}},
        {"type": "subscribe", "id": "1", "payload": payload},
    ):
        text = orjson.dumps(message)
        writer.write(b"\x81\xfe" + len(text).to_bytes(2) + bytes(4) + text)
    assert await _frame(reader) == {"type": "connection_ack"}
    return reader, writer


async def _rest_of_ws(reader: asyncio.StreamReader) -> tuple[list[Edge], dict[str, Any]]:
    whole = []
    while (message := await _frame(reader))["type"] == "next":
        whole.append(message["payload"]["data"]["delegationEvents"])
    assert message["type"] == "error"
    return whole, message["payload"][0]


async def _frame(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next text message; pings are passed over."""
    while True:
        kind, size = await reader.readexactly(2)
        if size >= 126:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
        text = await reader.readexactly(size)
        if kind == 0x81:
            message: dict[str, Any] = orjson.loads(text)
            return message


# -- several nodes


@pytest.mark.parametrize("lost", ["every notification", "every poll", "some notifications"])
async def test_either_way_of_hearing_of_another_node_is_enough(
    postgres: Postgres,
    tmp_path_factory: pytest.TempPathFactory,
    service: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
) -> None:
    heard = Wake.heard
    share = {"every notification": 1.0, "every poll": 0.0, "some notifications": 0.5}[lost]
    monkeypatch.setattr(
        Wake, "heard", lambda self, what: None if random.random() < share else heard(self, what)
    )
    if lost == "every poll":
        monkeypatch.setattr("app.ledger.wake.POLL", 3600)
        monkeypatch.setattr("app.delivery.feed._QUIET", 3600)
    with postgres.database() as dsn:
        one, two = (Installation(tmp_path_factory.mktemp("node"), dsn) for _ in range(2))
        async with opened_here(one) as here, opened_here(two) as there:
            await _heard_there(here, there, service)


async def _heard_there(here: Here, there: Here, service: Upstream) -> None:
    loan = await here.lending.loan(service.port)
    start = (await logged(there.port, loan.delegator))[-1]["cursor"]
    stream = events(there.port, loan.delegator.key, "sse", after=start)
    first = asyncio.ensure_future(anext(stream))
    edges, ids = [], []
    while not first.done():
        ids.append(await act(here.port, loan))
    edges.append(await first)
    ids += [await act(here.port, loan) for _ in range(20)]
    while len(edges) < len(ids):
        edges.append(await anext(stream))
    assert [edge["node"]["dispatchId"] for edge in edges] == ids
    await stream.aclose()
