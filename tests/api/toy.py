"""A schema that knows nothing of the product: it answers, fails and streams in every way that the framework meets."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from itertools import count

import strawberry
from starlette.requests import HTTPConnection

from app.api.guarded import GuardedSchema
from app.api.pages import Keyset, a_seq
from app.api.scalars import JSON, Cidr, Int53, Scope
from app.rules.errors import BadInput, Forbidden, GatewayError, Unauthenticated, Unavailable
from app.rules.ids import Instant

SECRET = "the database's password is hunter2"

NUMBERS = Keyset("number", a_seq)


@dataclass
class Context:
    """Of one operation; `serial` is another for each."""

    caller: str
    serial: int


@dataclass
class World:
    """What a test may turn, and what it may watch."""

    keys: dict[str, str] = field(default_factory=lambda: {"cgk_alice": "alice", "cgk_bob": "bob"})
    serials: "count[int]" = field(default_factory=count)
    running: set[str] = field(default_factory=set)
    started: threading.Condition = field(default_factory=threading.Condition)

    async def authenticate(self, headers: Mapping[str, str]) -> str | None:
        """`cgk_away` finds the store away, `cgk_broken` a bug."""
        key = headers.get("x-api-key", "")
        if key == "cgk_away":
            raise Unavailable("the store does not answer", retry_after=7)
        if key == "cgk_broken":
            raise RuntimeError(SECRET)
        return self.keys.get(key)

    def context_for(self, caller: str, connection: HTTPConnection) -> Context:
        assert connection.headers["host"]
        return Context(caller, next(self.serials))

    def begin(self, name: str) -> None:
        with self.started:
            self.running.add(name)
            self.started.notify_all()

    def end(self, name: str) -> None:
        with self.started:
            self.running.discard(name)
            self.started.notify_all()

    def until(self, name: str, *, runs: bool) -> bool:
        """Blocks until `name` runs, or does not; False after 30 s."""
        with self.started:
            return self.started.wait_for(lambda: (name in self.running) is runs, timeout=30)


WORLD = World()

FAULTS: dict[str, Exception] = {
    "bad": BadInput("thing: must be right"),
    "forbidden": Forbidden("you may not"),
    "unauthenticated": Unauthenticated("your key has ended"),
    "away": Unavailable("try again"),
    "gateway": GatewayError("told"),
    "bug": RuntimeError(SECRET),
    "graphql": strawberry.exceptions.StrawberryGraphQLError(SECRET),
}


@strawberry.input
class Limits:
    networks: list[Cidr]
    until: Instant | None = None


@strawberry.input
class EchoInput:
    scope: Scope | None = None
    limits: Limits | None = None
    number: Int53 | None = None
    json: JSON | None = None


@strawberry.type
class Echo:
    scope: Scope | None
    networks: list[Cidr]
    until: Instant | None
    number: Int53 | None
    json: JSON | None


@strawberry.type
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Thing:
    id: strawberry.ID

    @strawberry.field
    def child(self) -> "Thing":
        return Thing(id=strawberry.ID(f"{self.id}."))

    @strawberry.field
    def children(self) -> list["Thing"]:
        return [Thing(id=strawberry.ID(f"{self.id}.{n}")) for n in range(2)]

    @strawberry.field
    def things(self, first: int | None = None, last: int | None = None) -> "ThingConnection":
        return ThingConnection.of(first=first, last=last)


@strawberry.type
class ThingEdge:
    cursor: str
    node: Thing


@strawberry.type
class ThingConnection:
    edges: list[ThingEdge]
    nodes: list[Thing]
    page_info: PageInfo

    @classmethod
    def of(
        cls,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> "ThingConnection":
        """Pages of the numbers 1 to 250."""
        page = NUMBERS.page(first=first, after=after, last=last, before=before)
        rows = [n for n in range(1, 251) if (page.after or 0) < n < (page.before or 251)]
        asked = (rows[::-1] if page.backward else rows)[: page.limit + 1]
        found = NUMBERS.slice(asked, page, lambda n: n)
        things = [Thing(id=strawberry.ID(str(n))) for n in found.rows]
        return cls(
            edges=[
                ThingEdge(cursor=NUMBERS.cursor(n), node=t) for n, t in zip(found.rows, things, strict=True)
            ],
            nodes=things,
            page_info=PageInfo(
                has_next_page=found.has_next,
                has_previous_page=found.has_previous,
                start_cursor=found.start,
                end_cursor=found.end,
            ),
        )


@strawberry.type
class Query:
    @strawberry.field
    def hello(self) -> str:
        return "world"

    @strawberry.field
    def whoami(self, info: strawberry.Info[Context, None]) -> str:
        return info.context.caller

    @strawberry.field
    def serial(self, info: strawberry.Info[Context, None]) -> int:
        return info.context.serial

    @strawberry.field
    def echo(self, input: EchoInput) -> Echo:
        limits = input.limits or Limits(networks=[])
        return Echo(
            scope=input.scope,
            networks=limits.networks,
            until=limits.until,
            number=input.number,
            json=input.json,
        )

    @strawberry.field
    def fails(self, how: str) -> str | None:
        raise FAULTS[how]

    @strawberry.field
    def fails_hard(self, how: str) -> str:
        raise FAULTS[how]

    @strawberry.field
    def half(self, number: int) -> int:
        return number // 2

    @strawberry.field
    def left_out(self, number: strawberry.Maybe[int] = None) -> bool:
        return number is None

    @strawberry.field
    def too_big(self) -> int | None:
        return 2**40

    @strawberry.field
    def no_json(self) -> JSON:
        return JSON(object())

    @strawberry.field
    async def cancelled(self) -> str | None:
        raise asyncio.CancelledError

    @strawberry.field
    def thing(self) -> Thing:
        return Thing(id=strawberry.ID("1"))

    @strawberry.field
    def things(
        self,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> ThingConnection:
        return ThingConnection.of(first, last, after, before)

    @strawberry.field
    def nodes(self, ids: list[strawberry.ID]) -> list[Thing | None]:
        return [Thing(id=id) for id in ids]

    @strawberry.field
    async def waits(self, name: str) -> str:
        try:
            WORLD.begin(name)
            await asyncio.Event().wait()
        finally:
            WORLD.end(name)
        return name

    @strawberry.field
    async def lingers(self, name: str) -> str:
        """Answers although it was cancelled."""
        try:
            WORLD.begin(name)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"
        finally:
            WORLD.end(name)
        return "never"


@strawberry.type
class Mutation:
    @strawberry.mutation
    def shout(self, word: str) -> str:
        return word.upper()


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def counts(self, to: int) -> AsyncGenerator[int, None]:
        for n in range(to):
            yield n

    @strawberry.subscription
    async def whoami(self, info: strawberry.Info[Context, None]) -> AsyncGenerator[str, None]:
        yield info.context.caller

    @strawberry.subscription
    async def never(self, name: str) -> AsyncGenerator[int, None]:
        """Says 0 when it has begun, and nothing more."""
        try:
            WORLD.begin(name)
            yield 0
            await asyncio.Event().wait()
        finally:
            WORLD.end(name)

    @strawberry.subscription
    async def floods(self, name: str) -> AsyncGenerator[str, None]:
        """More than a client that does not read has room for."""
        try:
            WORLD.begin(name)
            while True:
                yield "x" * 1_000_000
        finally:
            WORLD.end(name)

    @strawberry.subscription
    async def fails(self, how: str, after: int) -> AsyncGenerator[int, None]:
        for n in range(after):
            yield n
        raise FAULTS[how]

    @strawberry.subscription
    async def stumbles(self) -> AsyncGenerator[Thing | None, None]:
        """One event fails, those around it do not."""
        yield Thing(id=strawberry.ID("1"))
        yield 5  # type: ignore[misc]  # no Thing: a fault of ours in one event
        yield Thing(id=strawberry.ID("3"))


SCHEMA = GuardedSchema(Query, Mutation, Subscription)
