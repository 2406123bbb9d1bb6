"""A router's side of callbacks: a real server that takes what is POSTed to it, and keeps what it has taken."""

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


@dataclass(frozen=True)
class Subscribed:
    """What a router asks a gateway for."""

    id: str
    url: str
    verifier: str
    extension: dict[str, object]


@dataclass
class Taking(Play):
    """Answers 204 as a router does, and 404 to what it has given up. Has what it has taken, with when."""

    taken: list[tuple[float, Message]] = field(default_factory=list)
    given_up: set[str] = field(default_factory=set)
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self, line: Line, seen: Seen) -> None:
        message = orjson.loads(seen.body)
        gone = message["id"] in self.given_up
        if not gone:
            assert seen.header(PROTOCOL[0]) == PROTOCOL[1]
            assert seen.header("content-type") == "application/json"
            self.taken.append((asyncio.get_running_loop().time(), message))
        await line.say(head(404 if gone else 204, 0, [PROTOCOL]))
        async with self.moved:
            self.moved.notify_all()


@dataclass
class Sometimes(Play):
    """Plays another part at times: `when` says of each message whether."""

    taking: Taking
    other: Play
    when: Callable[[Message], bool]

    async def __call__(self, line: Line, seen: Seen) -> None:
        play = self.other if self.when(orjson.loads(seen.body)) else self.taking
        await play(line, seen)


class Router:
    """It has an id and a verifier for each subscription."""

    def __init__(self, at: Upstream) -> None:
        self.at = at
        self.taking = at.play = Taking()

    def wants(self, heartbeat: int = 0) -> Subscribed:
        """A subscription with an address of its own."""
        id, verifier = str(uuid4()), uuid4().hex
        url = f"{self.at.url}/callback/{id}"
        asked = {"callbackUrl": url, "subscriptionId": id, "verifier": verifier}
        return Subscribed(id, url, verifier, {**asked, "heartbeatIntervalMs": heartbeat})

    async def subscribed(
        self,
        port: int,
        key: str,
        variables: Mapping[str, object] | None = None,
        *,
        heartbeat: int = 0,
        query: str = EVENTS,
    ) -> Subscribed:
        """One that the gateway has agreed to."""
        wanted = self.wants(heartbeat)
        answer = await subscribe(port, key, wanted.extension, variables, query=query)
        assert answer.json == {"data": None}, answer.body
        return wanted

    def play(self, other: Play, when: Callable[[Message], bool]) -> None:
        """Plays another part at times."""
        self.at.play = Sometimes(self.taking, other, when)

    def give_up(self, wanted: Subscribed) -> None:
        """Answers 404 from now on."""
        self.taking.given_up.add(wanted.id)

    def times(self, wanted: Subscribed, action: str) -> list[float]:
        """When what came."""
        return [at for at, each in self.taking.taken if (each["id"], each["action"]) == (wanted.id, action)]

    def messages(self, wanted: Subscribed, action: str) -> list[Message]:
        """What it has taken, in order."""
        by = (wanted.id, wanted.verifier, "subscription", action)
        return [
            each
            for _, each in self.taking.taken
            if (each["id"], each["verifier"], each["kind"], each["action"]) == by
        ]

    def edges(self, wanted: Subscribed) -> list[Edge]:
        """What it has taken of the log."""
        return [each["payload"]["data"]["delegationEvents"] for each in self.messages(wanted, "next")]

    def ids(self, wanted: Subscribed) -> set[str]:
        """Of these entries."""
        return {edge["node"]["id"] for edge in self.edges(wanted)}

    async def until(self, ready: Callable[[], bool]) -> None:
        """Waits for what it has taken to be so."""
        async with self.taking.moved:
            await self.taking.moved.wait_for(ready)

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
    payload = {
        "query": query,
        "variables": dict(variables or {}),
        "extensions": {"subscription": extension},
    }
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
