"""A router's side of callbacks: a real server that takes what is POSTed to it, and logs it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson

from app.store.tables import CallbackSubscription
from tests.server.client import Answer, Connection, request
from tests.server.lending import Lending
from tests.server.streams import EVENTS, Edge
from tests.upstreams import Line, Play, Seen, Upstream, head, upstream
from tests.world import Member

ACCEPT = "application/json;callbackSpec=1.0"
PROTOCOL = ("subscription-protocol", "callback/1.0")
Message = dict[str, Any]


@dataclass
class Take(Play):
    """Answers 204 as a router does; 404 to what it has given up."""

    given_up: set[str] = field(default_factory=set)

    async def __call__(self, line: Line, seen: Seen) -> None:
        gone = orjson.loads(seen.body)["id"] in self.given_up
        await line.say(head(404 if gone else 204, 0, [PROTOCOL]))


@dataclass(frozen=True)
class Subscribed:
    """What a router asked a gateway for."""

    id: str
    url: str
    verifier: str
    extension: dict[str, object]


class Router:
    """It has an id and a verifier for each subscription."""

    def __init__(self, at: Upstream) -> None:
        self.at = at
        self.take = Take()
        at.play = self.take

    def wants(self, heartbeat: int | None = 0, path: str | None = None) -> Subscribed:
        """A subscription with an address of its own."""
        id, verifier = str(uuid4()), uuid4().hex
        url = f"{self.at.url}{path or '/callback/' + id}"
        extension: dict[str, object] = {"callbackUrl": url, "subscriptionId": id, "verifier": verifier}
        if heartbeat is not None:
            extension["heartbeatIntervalMs"] = heartbeat
        return Subscribed(id, url, verifier, extension)

    async def subscribed(self, port: int, key: str, heartbeat: int = 0, **variables: object) -> Subscribed:
        """One that the gateway has agreed to."""
        wanted = self.wants(heartbeat)
        answer = await subscribe(port, key, wanted.extension, variables)
        assert answer.json == {"data": None}, answer.body
        return wanted

    def give_up(self, wanted: Subscribed) -> None:
        """Answers 404 from now on."""
        self.take.given_up.add(wanted.id)

    def messages(self, wanted: Subscribed, action: str) -> list[Message]:
        """What came for it, in order. Everything that comes is as the protocol says."""
        found = []
        for seen in self.at.seen:
            message = orjson.loads(seen.body)
            if message["id"] == wanted.id:
                assert (message["kind"], message["verifier"]) == ("subscription", wanted.verifier)
                assert (seen.header(PROTOCOL[0]), seen.header("content-type")) == (
                    PROTOCOL[1],
                    "application/json",
                )
                found.append(message)
        return [message for message in found if message["action"] == action]

    def edges(self, wanted: Subscribed) -> list[Edge]:
        """What arrived of the log."""
        return [each["payload"]["data"]["delegationEvents"] for each in self.messages(wanted, "next")]

    def seqs(self, wanted: Subscribed) -> list[int]:
        return [edge["node"]["seq"] for edge in self.edges(wanted)]

    async def until(self, ready: Callable[[], bool]) -> None:
        """Waits for what came to be so."""
        while not ready():
            await self.at.saw(len(self.at.seen) + 1)

    async def ended(self, wanted: Subscribed) -> str:
        """With which code a subscription was completed, once it is."""
        await self.until(lambda: bool(self.messages(wanted, "complete")))
        [message] = self.messages(wanted, "complete")
        code: str = message["errors"][0]["extensions"]["code"]
        return code


async def subscribe(
    port: int,
    key: str,
    extension: object,
    variables: Mapping[str, object] | None = None,
    *,
    query: str = EVENTS,
    accept: str = ACCEPT,
) -> Answer:
    """Asks a gateway for a subscription over callbacks; its answer as it came."""
    payload = {"query": query, "variables": dict(variables or {}), "extensions": {"subscription": extension}}
    headers = [("X-API-Key", key), ("Content-Type", "application/json"), ("Accept", accept)]
    async with Connection(port) as connection:
        return await connection.exchange(request("POST", "/graphql", headers, orjson.dumps(payload)))


@asynccontextmanager
async def router(port: int = 0) -> AsyncIterator[Router]:
    """A router for the length of a block."""
    async with upstream(port) as at:
        yield Router(at)


async def subscriptions(lending: Lending, member: Member) -> list[CallbackSubscription]:
    """What a tenant has in the store."""
    return await lending.rows(CallbackSubscription, CallbackSubscription.tenant_id == member.id)


async def none_left(lending: Lending, member: Member) -> None:
    """Waits until a tenant has none in the store."""
    while await subscriptions(lending, member):  # noqa: ASYNC110  # announced by nobody
        await asyncio.sleep(0.02)
