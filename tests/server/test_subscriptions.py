"""`delegationEvents`: the log as it grows, without a gap, until the key that opened it has ended."""

import asyncio
from contextlib import aclosing

import pytest

from app.rules.permissions import Role
from tests.postgres import Postgres
from tests.server.client import ask
from tests.server.conftest import House, lending_in
from tests.server.streams import (
    Edge,
    Ended,
    Transport,
    a_key,
    events,
    logged,
    taken,
    until_its_key_is_revoked,
    writing,
)
from tests.serving import Installation
from tests.upstreams import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRANSPORTS = pytest.mark.parametrize("transport", ["ws", "sse", "multipart"])


@TRANSPORTS
async def test_a_stream_resumes_without_a_gap_while_writers_run(
    house: House, service: Upstream, transport: Transport
) -> None:
    loan = await house.lending.loan(service.port)
    start = (await logged(house.port, loan.delegator))[-1]["cursor"]
    edges: list[Edge] = []
    async with writing(house.port, loan) as written:
        while not written.is_set():
            after = edges[-1]["cursor"] if edges else start
            edges += await taken(events(house.port, loan.delegator.key, transport, after=after), 7)
    whole = await logged(house.port, loan.delegator, start)
    edges += await taken(
        events(house.port, loan.delegator.key, transport, after=edges[-1]["cursor"]), len(whole) - len(edges)
    )
    assert edges == whole
    assert {edge["node"]["dispatchId"] for edge in edges} == set(service.dispatch_ids)


@TRANSPORTS
async def test_a_stream_without_a_cursor_begins_now(
    house: House, service: Upstream, transport: Transport
) -> None:
    loan = await house.lending.loan(service.port)
    async with aclosing(events(house.port, loan.delegate.key, transport)) as stream:
        first = asyncio.ensure_future(anext(stream))
        while not first.done():  # it follows from some moment on: what comes later is all there
            await ask(house.port, "GET", loan.at(), [loan.bearer])
        assert (await first)["node"]["dispatchId"] in service.dispatch_ids
        rest = service.dispatch_ids[service.dispatch_ids.index((await first)["node"]["dispatchId"]) + 1 :]
        assert [(await anext(stream))["node"]["dispatchId"] for _ in rest] == rest


@TRANSPORTS
async def test_a_stream_shows_what_it_was_asked_for(
    house: House, service: Upstream, transport: Transport
) -> None:
    loan = await house.lending.loan(service.port)
    other = await house.lending.another(loan)
    start = (await logged(house.port, loan.delegator))[0]["cursor"]
    for each in (loan, other):
        await ask(house.port, "GET", each.at(), [each.bearer])
        await ask(house.port, "DELETE", each.at(), [each.bearer])
    key = loan.delegator.key

    async def seen(count: int, **wanted: object) -> list[tuple[str, str]]:
        edges = await taken(events(house.port, key, transport, after=start, **wanted), count)
        return [(edge["node"]["event"], edge["node"]["delegation"]["id"]) for edge in edges]

    assert await seen(2, events=["delegation.action"]) == [
        ("delegation.action", loan.id),
        ("delegation.action", other.id),
    ]
    assert await seen(4, events=["*.denied", "delegation.act*"]) == [
        (f"delegation.{what}", each.id) for each in (loan, other) for what in ("action", "denied")
    ]
    assert await seen(5, delegationId=other.id) == [
        (event, other.id)
        for event in (
            *("delegation.offered", "delegation.accepted", "binding.created"),
            *("delegation.action", "delegation.denied"),
        )
    ]
    assert await seen(1, delegationId=other.id, events=["delegation.denied"]) == [
        ("delegation.denied", other.id)
    ]


@TRANSPORTS
async def test_a_stream_ends_with_its_key_and_delivers_nothing_that_came_after(
    house: House, service: Upstream, transport: Transport
) -> None:
    loan = await house.lending.loan(service.port)
    async with writing(house.port, loan) as written:
        await written.wait()
        delivered, ended, revocation = await until_its_key_is_revoked(house, loan, transport)
        await ask(house.port, "GET", loan.at(), [loan.bearer])
    ledger = await house.lending.whole_ledger(loan.delegator)
    assert ended == "UNAUTHENTICATED"
    assert delivered == list(range(delivered[0], delivered[-1] + 1))
    assert delivered[-1] < revocation < len(ledger), "writers went on"


@TRANSPORTS
async def test_a_stream_ends_when_its_key_expires(house: House, transport: Transport) -> None:
    member = await house.lending.tenant()
    expires_at = house.lending.later(1.5)
    key, _ = await a_key(house.lending, member, expires_at)
    with pytest.raises(Ended, match="UNAUTHENTICATED"):
        async with asyncio.timeout(15):
            await taken(events(house.port, key, transport), 1)
    assert house.lending.later(0) >= expires_at


@TRANSPORTS
async def test_a_stream_needs_a_key_that_may_read_the_log(house: House, transport: Transport) -> None:
    member = await house.lending.tenant()
    key, _ = await a_key(house.lending, member, role=Role.VIEWER)
    with pytest.raises(Ended, match="FORBIDDEN"):
        await taken(events(house.port, key, transport), 1)


async def test_nothing_of_another_tenant_is_in_a_stream(house: House, service: Upstream) -> None:
    loan, stranger = await house.lending.loan(service.port), await house.lending.loan(service.port)
    start = (await logged(house.port, stranger.delegator))[-1]["cursor"]
    following = asyncio.ensure_future(taken(events(house.port, stranger.delegator.key, "ws", after=start), 1))
    for _ in range(5):
        await ask(house.port, "GET", loan.at(), [loan.bearer])
    mine = await ask(house.port, "GET", stranger.at(), [stranger.bearer])
    assert [edge["node"]["dispatchId"] for edge in await following] == [mine.dispatch_id]


async def test_what_one_node_writes_reaches_a_subscriber_at_another(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, service: Upstream
) -> None:
    with postgres.database() as dsn:
        nodes = [Installation(tmp_path_factory.mktemp("node"), dsn) for _ in range(2)]
        async with (
            nodes[0].serving() as one,
            nodes[1].serving() as two,
            lending_in(nodes[0]) as lending,
        ):
            loan = await lending.loan(service.port)
            start = (await logged(one.port, loan.delegator))[-1]["cursor"]
            following = asyncio.ensure_future(
                taken(events(two.port, loan.delegator.key, "ws", after=start), 20)
            )
            for number in range(20):
                await ask((one, two)[number % 2].port, "GET", loan.at(), [loan.bearer])
            edges = await following
            assert [edge["node"]["dispatchId"] for edge in edges] == service.dispatch_ids


@TRANSPORTS
async def test_a_stream_is_told_to_go_on_elsewhere_when_its_gateway_stops(
    tmp_path_factory: pytest.TempPathFactory, transport: Transport
) -> None:
    installation = Installation(tmp_path_factory.mktemp("stopping"))
    async with installation.serving() as served, lending_in(installation) as lending:
        loan = await lending.loan()
        first, *rest = await logged(served.port, loan.delegator)
        stream = events(served.port, loan.delegator.key, transport, after=first["cursor"])
        assert [await anext(stream) for _ in rest] == rest, "it follows"
        stopping = asyncio.ensure_future(served.stop())
        with pytest.raises(Ended) as ended:
            await anext(stream)
        # A WebSocket's client connects again by itself; whoever reads a response would take its end for the stream's.
        assert ended.value.code == ("1012" if transport == "ws" else "UNAVAILABLE")
        assert await stopping == 0
