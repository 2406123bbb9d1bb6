"""graphql-transport-ws over a raw socket: the protocol's codes, and operations that fail alone."""

import asyncio
from typing import cast

import orjson
import pytest
from graphql import GraphQLFormattedError
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from app.api.sockets import LARGEST_MESSAGE, MOST_OPERATIONS
from tests.api.conftest import Connecting, Socket
from tests.api.toy import WORLD

INIT = {"type": "connection_init", "payload": {"apiKey": "cgk_alice"}}


def subscribe(id: str, query: str, **more: object) -> dict[str, object]:
    return {"type": "subscribe", "id": id, "payload": {"query": query, **more}}


def next_(id: str, **data: object) -> dict[str, object]:
    return {"id": id, "type": "next", "payload": {"data": data}}


def complete(id: str) -> dict[str, object]:
    return {"id": id, "type": "complete"}


async def error(socket: Socket, id: str) -> str:
    """The code of the operation's only error."""
    message = await socket.receive()
    assert (message["id"], message["type"]) == (id, "error")
    errors = cast(list[GraphQLFormattedError], message["payload"])
    assert len(errors) == 1
    return str(errors[0]["extensions"]["code"])


async def test_any_operation_runs(ws: Connecting) -> None:
    async with ws() as socket:
        await socket.send(subscribe("1", "subscription { counts(to: 2) }"))
        assert [await socket.receive() for _ in range(3)] == [
            next_("1", counts=0),
            next_("1", counts=1),
            complete("1"),
        ]
        await socket.send(subscribe("1", "query Q($n: Int!) { half(number: $n) }", variables={"n": 8}))
        assert [await socket.receive() for _ in range(2)] == [next_("1", half=4), complete("1")]
        await socket.send({"type": "ping"})
        assert await socket.receive() == {"type": "pong"}


@pytest.mark.parametrize(
    "message",
    [
        *(
            "[]",
            "null",
            '"x"',
            "5",
            "{",
            "",
            "{}",
            '{"type": null}',
            '{"type": ["ping"]}',
            '{"type": "nonsense"}',
        ),
        *('{"type": "' + "é" * 500 + '"}', '{"type": "subscribe"}', '{"type": "subscribe", "id": "1"}'),
        *(
            '{"type": "subscribe", "id": "1", "payload": null}',
            '{"type": "subscribe", "id": "1", "payload": []}',
        ),
        *(
            '{"type": "subscribe", "id": "1", "payload": {}}',
            '{"type": "subscribe", "payload": {"query": "{ a }"}}',
        ),
        '{"type": "subscribe", "id": [], "payload": {"query": "{ hello }"}}',
        '{"type": "subscribe", "id": 1, "payload": {"query": "{ hello }"}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": 5}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ hello }", "variables": []}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ hello }", "operationName": 5}}',
        *('{"type": "complete"}', '{"type": "complete", "id": []}', "[" * 2000),
    ],
)
@pytest.mark.parametrize("acknowledged", [True, False])
async def test_a_malformed_message_closes_with_4400(ws: Connecting, message: str, acknowledged: bool) -> None:
    init = INIT["payload"] if acknowledged else None
    async with ws(init) as socket:
        await socket.raw.send(message)
        assert await socket.closed() == 4400


async def test_a_binary_frame_closes_with_4400(ws: Connecting) -> None:
    async with ws() as socket:
        await socket.raw.send(orjson.dumps({"type": "ping"}))
        assert await socket.closed() == 4400


@pytest.mark.parametrize("payload", [None, [], "x", 5])
async def test_an_init_payload_that_is_no_object_closes_with_4400(ws: Connecting, payload: object) -> None:
    async with ws(init=None) as socket:
        await socket.send({"type": "connection_init", "payload": payload})
        assert await socket.closed() == 4400


@pytest.mark.parametrize(
    "init",
    [
        {"type": "connection_init"},
        *(
            {"type": "connection_init", "payload": payload}
            for payload in ({}, {"apiKey": "x"}, {"apiKey": 5})
        ),
    ],
)
async def test_without_a_key_the_connection_closes_with_4403(ws: Connecting, init: object) -> None:
    async with ws(init=None) as socket:
        await socket.send(init)
        assert await socket.closed() == 4403
        assert (socket.raw.close_reason or "").startswith('no valid API key: send {"apiKey": ')


@pytest.mark.parametrize(("key", "code", "logged"), [("cgk_away", 1013, 0), ("cgk_broken", 1011, 1)])
async def test_a_fault_of_ours_at_init_closes_as_such(
    ws: Connecting, key: str, code: int, logged: int
) -> None:
    async with ws(init=None) as socket:
        with capture_logs() as logs:
            await socket.send({"type": "connection_init", "payload": {"apiKey": key}})
            assert await socket.closed() == code
    assert len(logs) == logged


async def test_subscribing_before_the_acknowledgement_closes_with_4401(ws: Connecting) -> None:
    async with ws(init=None) as socket:
        await socket.send(subscribe("1", "{ hello }"))
        assert await socket.closed() == 4401


async def test_a_second_init_closes_with_4429(ws: Connecting) -> None:
    async with ws() as socket:
        await socket.send(INIT)
        assert await socket.closed() == 4429


async def test_an_id_in_use_closes_with_4409(ws: Connecting) -> None:
    name = "é" * 200  # longer than a close frame has room for
    async with ws() as socket:
        await socket.send(subscribe(name, 'subscription { never(name: "twice") }'))
        await socket.receive()
        await socket.send(subscribe(name, "{ hello }"))
        assert await socket.closed() == 4409
    assert await asyncio.to_thread(WORLD.until, "twice", runs=False)


async def test_no_init_in_time_closes_with_4408(ws: Connecting) -> None:
    async with ws(init=None, path="/hasty") as socket:
        assert await socket.closed() == 4408


async def test_a_message_over_the_limit_closes_with_1009(ws: Connecting) -> None:
    async with ws() as socket:
        await socket.send(subscribe("1", "{ hello }", extensions={"x": "x" * (LARGEST_MESSAGE - 200)}))
        assert await socket.receive() == next_("1", hello="world")
        assert await socket.receive() == complete("1")
        await socket.raw.send("é" * (LARGEST_MESSAGE // 2 + 1))
        assert await socket.closed() == 1009


@pytest.mark.parametrize("protocol", ["graphql-ws", "nonsense"])
async def test_another_protocol_closes_with_4406(ws: Connecting, protocol: str) -> None:
    # The legacy graphql-ws has let callers past authentication before.
    async with ws(init=None, protocol=protocol) as socket:
        assert await socket.closed() == 4406


async def test_a_page_of_another_site_cannot_connect(address: str) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        await connect(f"ws://{address}/graphql", origin="https://elsewhere.example")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{ hello", "BAD_USER_INPUT"),
        ("", "BAD_USER_INPUT"),
        ("{ nothing }", "BAD_USER_INPUT"),
        ("query ($n: Int!) { half(number: $n) }", "BAD_USER_INPUT"),
        ("query A { hello } query B { hello }", "BAD_USER_INPUT"),
        ("{ " + "hello " * 600 + "}", "QUERY_TOO_COMPLEX"),
    ],
)
async def test_a_document_that_cannot_run_fails_alone(ws: Connecting, query: str, code: str) -> None:
    async with ws() as socket:
        await socket.send(subscribe("lives", 'subscription { never(name: "beside") }'))
        assert await socket.receive() == next_("lives", never=0)
        await socket.send(subscribe("fails", query))
        assert await error(socket, "fails") == code
        await socket.send(subscribe("fails", "{ hello }"))  # the id is free again
        assert await socket.receive() == next_("fails", hello="world")
        assert await socket.receive() == complete("fails")
        assert WORLD.until("beside", runs=True)


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize(
    ("how", "code"), [("unauthenticated", "UNAUTHENTICATED"), ("bug", "INTERNAL"), ("away", "UNAVAILABLE")]
)
async def test_an_error_while_iterating_ends_its_operation(
    ws: Connecting, how: str, code: str, after: int
) -> None:
    async with ws() as socket:
        with capture_logs():
            await socket.send(subscribe("1", f'subscription {{ fails(how: "{how}", after: {after}) }}'))
            for n in range(after):
                assert await socket.receive() == next_("1", fails=n)
            assert await error(socket, "1") == code
        await socket.send({"type": "ping"})
        assert await socket.receive() == {"type": "pong"}


async def test_an_event_that_fails_does_not_end_its_operation(ws: Connecting) -> None:
    async with ws() as socket:
        with capture_logs():
            await socket.send(subscribe("1", "subscription { stumbles { id } }"))
            messages = [await socket.receive() for _ in range(4)]
    assert messages[0] == next_("1", stumbles={"id": "1"})
    assert orjson.dumps(messages[1]).count(b'"INTERNAL"') == 1
    assert messages[2:] == [next_("1", stumbles={"id": "3"}), complete("1")]


async def test_a_connection_runs_no_more_than_its_operations(ws: Connecting) -> None:
    async with ws() as socket:
        for n in range(MOST_OPERATIONS):
            await socket.send(subscribe(str(n), 'subscription { never(name: "many") }'))
            assert await socket.receive() == next_(str(n), never=0)
        await socket.send(subscribe("more", "{ hello }"))
        assert await error(socket, "more") == "RATE_LIMITED"
        await socket.send({"type": "complete", "id": "0"}, subscribe("more", "{ hello }"))
        assert await socket.receive() == next_("more", hello="world")


async def test_completing_ends_the_operation_and_frees_its_id(ws: Connecting) -> None:
    async with ws() as socket:
        await socket.send(subscribe("1", 'subscription { never(name: "completed") }'))
        assert await socket.receive() == next_("1", never=0)
        await socket.send({"type": "complete", "id": "1"}, {"type": "complete", "id": "unknown"})
        assert await asyncio.to_thread(WORLD.until, "completed", runs=False)
        await socket.send(subscribe("1", "{ hello }"))
        assert [await socket.receive() for _ in range(2)] == [next_("1", hello="world"), complete("1")]


async def test_nothing_late_goes_out_under_an_id_that_is_used_again(ws: Connecting) -> None:
    async with ws() as socket:
        await socket.send(subscribe("1", '{ lingers(name: "late") }'))
        assert await asyncio.to_thread(WORLD.until, "late", runs=True)
        await socket.send(
            {"type": "complete", "id": "1"}, subscribe("1", 'subscription { never(name: "new") }')
        )
        assert await socket.receive() == next_("1", never=0)
        await socket.send({"type": "ping"})
        assert await socket.receive() == {"type": "pong"}
        await socket.send({"type": "complete", "id": "1"})
        assert await asyncio.to_thread(WORLD.until, "new", runs=False)


async def test_a_client_that_does_not_read_ends_its_operation_when_it_leaves(ws: Connecting) -> None:
    async with ws() as socket:
        await socket.send(subscribe("1", 'subscription { floods(name: "flooded") }'))
        assert await asyncio.to_thread(WORLD.until, "flooded", runs=True)
        socket.raw.transport.abort()
    assert await asyncio.to_thread(WORLD.until, "flooded", runs=False)


@pytest.mark.parametrize("leaves_politely", [True, False])
async def test_a_client_that_leaves_ends_its_operations(ws: Connecting, leaves_politely: bool) -> None:
    async with ws() as socket:
        await socket.send(subscribe("1", 'subscription { never(name: "gone") }'))
        await socket.receive()
        assert WORLD.until("gone", runs=True)
        if not leaves_politely:
            socket.raw.transport.abort()
    assert await asyncio.to_thread(WORLD.until, "gone", runs=False)


async def test_each_operation_has_a_context_of_its_own(ws: Connecting) -> None:
    async with ws() as socket:
        serials = set()
        for id in "abc":
            await socket.send(subscribe(id, "{ serial }"))
            message = await socket.receive()
            assert await socket.receive() == complete(id)
            serials.add(orjson.dumps(message["payload"]))
    assert len(serials) == 3


async def test_a_key_that_has_ended_starts_nothing_on_an_open_connection(ws: Connecting) -> None:
    WORLD.keys["cgk_brief"] = "brief"
    async with ws({"apiKey": "cgk_brief"}) as socket:
        await socket.send(subscribe("1", "{ whoami }"))
        assert await socket.receive() == next_("1", whoami="brief")
        assert await socket.receive() == complete("1")
        del WORLD.keys["cgk_brief"]
        await socket.send(subscribe("2", "{ whoami }"))
        assert await error(socket, "2") == "UNAUTHENTICATED"


async def test_a_wait_cancelled_by_others_is_an_error_and_not_silence(ws: Connecting) -> None:
    async with ws() as socket:
        with capture_logs():
            await socket.send(subscribe("1", "{ cancelled }"))
            assert await error(socket, "1") == "INTERNAL"


async def test_a_value_that_is_no_json_fails_its_operation_alone(ws: Connecting) -> None:
    async with ws() as socket:
        with capture_logs():
            await socket.send(subscribe("1", "{ noJson }"))
            message = await socket.receive()
        assert orjson.dumps(message).count(b'"INTERNAL"') == 1
        assert await socket.receive() == complete("1")
