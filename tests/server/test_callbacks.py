"""Subscriptions over callbacks: what a router is told, and when that ends."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.server.client import ask, data
from tests.server.conftest import House
from tests.server.routers import Router, router, subscribe
from tests.server.streams import REVOKE_KEY, a_key, logged
from tests.upstreams import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def federated() -> AsyncIterator[Router]:
    """One router for all tests that leave it as it is."""
    async with router() as running:
        yield running


async def test_a_router_agrees_and_is_told_what_comes(
    house: House, service: Upstream, federated: Router
) -> None:
    loan = await house.lending.loan(service.port)
    key = loan.delegator.key
    wanted = federated.wants()
    answer = await subscribe(house.port, key, wanted.extension)
    assert (answer.status, answer.json) == (200, {"data": None})
    assert answer.headers["subscription-protocol"] == "callback/1.0"
    assert len(federated.messages(wanted, "check")) == 1
    ids = [(await ask(house.port, "GET", loan.at(), [loan.bearer])).dispatch_id for _ in range(5)]
    await federated.until(lambda: len(federated.edges(wanted)) == 5)
    assert federated.edges(wanted) == [
        edge for edge in await logged(house.port, loan.delegator) if edge["node"]["dispatchId"] in ids
    ]
    assert [edge["node"]["dispatchId"] for edge in federated.edges(wanted)] == ids


async def test_it_begins_after_a_cursor_and_ends_when_the_router_wants_no_more(
    house: House, service: Upstream, federated: Router
) -> None:
    loan = await house.lending.loan(service.port)
    first, *rest = await logged(house.port, loan.delegator)
    wanted = await federated.subscribed(house.port, loan.delegator.key, after=first["cursor"])
    await federated.until(lambda: len(federated.edges(wanted)) == len(rest))
    assert federated.edges(wanted) == rest
    federated.give_up(wanted)
    other = await federated.subscribed(house.port, loan.delegator.key)
    for _ in range(3):
        await ask(house.port, "GET", loan.at(), [loan.bearer])
    await federated.until(lambda: len(federated.edges(other)) == 3)
    assert len(federated.edges(wanted)) == len(rest) + 1


async def test_it_is_completed_when_its_key_is_revoked(
    house: House, service: Upstream, federated: Router
) -> None:
    loan = await house.lending.loan(service.port)
    key, key_id = await a_key(house.lending, loan.delegator)
    wanted = await federated.subscribed(house.port, key)
    assert await data(house.port, loan.delegator.key, REVOKE_KEY, id=key_id) == {"userErrors": []}
    assert await federated.ended(wanted) == "UNAUTHENTICATED"
    assert federated.edges(wanted) == []
