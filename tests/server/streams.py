"""A subscriber's side of `delegationEvents`, over each transport, and those who give it something to read."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal

import httpx2
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError
from websockets.typing import Subprotocol

from app.identity.api_keys import create_key
from app.rules.ids import Instant
from app.rules.permissions import Role
from app.rules.tokens import TokenKind
from tests.server.client import PATIENCE, Connection, data
from tests.server.conftest import House
from tests.server.lending import Lending, Loan
from tests.serving import TLS
from tests.world import Member

Transport = Literal["ws", "sse", "multipart"]
Edge = dict[str, Any]

EVENTS = (
    "subscription ($after: String, $events: [String!], $delegationId: ID) "
    "{ delegationEvents(after: $after, events: $events, delegationId: $delegationId) "
    "{ cursor node { id seq event dispatchId delegation { id } } } }"
)


LOG = (
    "query ($after: String) { auditLog(first: 100, after: $after) { edges "
    "{ cursor node { id seq event dispatchId delegation { id } } } pageInfo { hasNextPage endCursor } } }"
)


LAST = "{ auditLog(last: 1) { edges { cursor node { seq } } } }"
REVOKE_KEY = "mutation ($id: ID!) { revokeApiKey(apiKeyId: $id) { userErrors { code } } }"


class Ended(Exception):
    """The gateway has ended the stream, with this code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def events(port: int, key: str, transport: Transport, **variables: object) -> AsyncGenerator[Edge, None]:
    """The edges of a stream. Raises Ended where it ends with an error."""
    stream = {"ws": _over_ws, "sse": _over_sse, "multipart": _over_multipart}[transport]
    return stream(port, key, {"query": EVENTS, "variables": variables})


async def _over_ws(port: int, key: str, payload: dict[str, object]) -> AsyncGenerator[Edge, None]:
    protocol = Subprotocol("graphql-transport-ws")
    async with connect(f"ws://127.0.0.1:{port}/graphql", subprotocols=[protocol], close_timeout=1) as socket:

        async def send(**message: object) -> None:
            await socket.send(orjson.dumps(message).decode())

        await send(type="connection_init", payload={"apiKey": key})
        await send(type="subscribe", id="1", payload=payload)
        async for text in _messages(socket):
            match orjson.loads(text):
                case {"type": "next", "payload": {"data": {"delegationEvents": edge}}}:
                    yield edge
                case {"type": "error", "payload": [error, *_]}:
                    raise Ended(error["extensions"]["code"])
                case {"type": "complete"}:
                    return
                case {"type": "connection_ack"}:
                    pass
                case other:
                    raise AssertionError(other)


async def _messages(socket: ClientConnection) -> AsyncGenerator[str | bytes, None]:
    try:
        async for text in socket:
            yield text
    except ConnectionClosedError as closed:
        raise Ended(str(closed.rcvd and closed.rcvd.code)) from closed


@asynccontextmanager
async def streaming(
    port: int, key: str, payload: dict[str, object], **headers: str
) -> AsyncIterator[httpx2.Response]:
    """The answer to a POST, as it comes."""
    async with (
        httpx2.AsyncClient(timeout=PATIENCE, verify=TLS) as http,
        http.stream(
            "POST", f"http://127.0.0.1:{port}/graphql", json=payload, headers={"X-API-Key": key, **headers}
        ) as answer,
    ):
        yield answer


async def _over_multipart(port: int, key: str, payload: dict[str, object]) -> AsyncGenerator[Edge, None]:
    accept = 'multipart/mixed;boundary=graphql;subscriptionSpec="1.0", application/json'
    async with streaming(port, key, payload, Accept=accept) as answer:
        assert answer.headers["content-type"] == 'multipart/mixed;boundary="graphql";subscriptionSpec="1.0"'
        async for part in parts(answer):
            if part.get("errors"):
                raise Ended(part["errors"][0]["extensions"]["code"])
            if part == {}:
                continue
            if errors := part["payload"].get("errors"):
                raise Ended(errors[0]["extensions"]["code"])
            yield part["payload"]["data"]["delegationEvents"]


async def parts(answer: httpx2.Response) -> AsyncGenerator[dict[str, Any], None]:
    """The parts of `multipart/mixed;boundary=graphql`, each as soon as its delimiter has come."""
    text = "\r\n"  # the delimiter begins with it, and is the first that comes
    async for piece in answer.aiter_text():
        *whole, text = (text + piece).split("\r\n--graphql")
        for part in whole:
            if part:
                head, _, body = part.partition("\r\n\r\n")
                assert head == "\r\ncontent-type: application/json"
                yield orjson.loads(body)
    assert text == "--\r\n", "the last delimiter"


async def _over_sse(
    port: int, key: str, payload: dict[str, object], **more: str
) -> AsyncGenerator[Edge, None]:
    async with streaming(port, key, payload, Accept="text/event-stream", **more) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line == "event: complete":
                return
            if line.startswith("data: "):
                result = orjson.loads(line.removeprefix("data: "))
                if errors := result.get("errors"):
                    raise Ended(errors[0]["extensions"]["code"])
                yield result["data"]["delegationEvents"]


@asynccontextmanager
async def writing(port: int, loan: Loan) -> AsyncIterator[asyncio.Event]:
    """Four callers act without pause; the event is set once they have done so for a while.

    At the end each hears the answer to what it asked last: nothing is under way any more.
    """
    written, enough, done = asyncio.Event(), asyncio.Event(), 0

    async def act() -> None:
        nonlocal done
        async with Connection(port) as connection:
            while not enough.is_set():
                assert (await connection.ask("GET", loan.at(), [loan.bearer])).status == 200
                done += 1
                if done == 100:
                    written.set()

    acting = [asyncio.ensure_future(act()) for _ in range(4)]
    try:
        yield written
    finally:
        enough.set()
        await asyncio.gather(*acting)


async def taken(stream: AsyncGenerator[Edge, None], count: int) -> list[Edge]:
    """The next edges of a stream, which is then left."""
    edges: list[Edge] = []
    async with aclosing(stream):
        while len(edges) < count:
            edges.append(await anext(stream))
    return edges


async def logged(port: int, member: Member, after: str | None = None) -> list[Edge]:
    """The audit log after a cursor."""
    edges: list[Edge] = []
    while True:
        page = await data(port, member.key, LOG, after=after)
        edges += page["edges"]
        if not page["pageInfo"]["hasNextPage"]:
            return edges
        after = page["pageInfo"]["endCursor"]


async def until_its_key_is_revoked(
    house: House, loan: Loan, transport: Transport, at: asyncio.Event | None = None
) -> tuple[list[int], str, int]:
    """Follows the delegator's log with a key, revokes that key (`at`, or once it has delivered), and waits for the end.

    Returns the seqs that were delivered, with what code it ended, and the revocation's own seq.
    """
    key, key_id = await a_key(house.lending, loan.delegator)
    start = (await data(house.port, loan.delegator.key, LAST))["edges"][0]
    delivered: list[int] = []
    begun = asyncio.Event()

    async def follow() -> str:
        try:
            async with aclosing(events(house.port, key, transport, after=start["cursor"])) as stream:
                async for edge in stream:
                    delivered.append(edge["node"]["seq"])
                    begun.set()
        except Ended as end:
            return end.code
        return "complete"

    following = asyncio.ensure_future(follow())
    await (at or begun).wait()
    assert await data(house.port, loan.delegator.key, REVOKE_KEY, id=key_id) == {"userErrors": []}
    ended = await following
    revocations = await house.lending.ledger(loan.delegator, "api_key.revoked")
    (seq,) = [entry["seq"] for entry in revocations if entry["details"]["apiKeyId"] == key_id]
    return delivered, ended, seq


async def a_key(
    lending: Lending, member: Member, expires_at: Instant | None = None, role: Role = Role.AUDITOR
) -> tuple[str, str]:
    """A key of the tenant beside its owner's, and its id."""
    minted = lending.keys.mint(TokenKind.API_KEY)
    key = await lending.made(
        create_key,
        member.owner,
        name="a reader",
        subject="a reader",
        role=role,
        expires_at=expires_at,
        minted=minted,
    )
    return minted.text, key.id
