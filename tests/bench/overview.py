"""The overview of shares: one query for a page of delegations with all that a frontend shows of each.

Measured in this process, so that it is seen how much of the time is the store's, and how many statements there are.
"""

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import Engine, event

from app.api.types.delegations import DELEGATIONS
from app.main import running
from app.telemetry import configure_logging
from tests import postgres
from tests.bench.figures import Figure
from tests.bench.gateway import settings_for
from tests.bench.lending import lend, member
from tests.bench.many import delegation_id, fill

FEW, MANY = 1_000, 120_000
PAGE = 50
ROUNDS = 20
WARM_UP = 5

#: What a list of shares shows.
OVERVIEW = """
query ($direction: Direction!, $first: Int!, $after: String) {
  delegations(direction: $direction, first: $first, after: $after) {
    pageInfo { hasNextPage endCursor }
    nodes {
      id status
      terms { version hash scopes constraints {
        expiresAt maxActionsPerHour maxActionsPerDay maxActionsPerMonth maxCostUnitsPerMonth
        ipAllowlist requireTrustScoreAbove maxRequestBytes condition denyPatterns
      } }
      usage { kind limit used remaining resetsAt }
      agent { id name }
      delegator { id slug name }
      delegate { id slug name }
      audit(last: 3) { nodes { seq event occurredAt } }
    }
  }
}
"""


@dataclass(frozen=True)
class Place:
    """Where a page is asked for: a gateway, whose key, and after what."""

    http: httpx2.AsyncClient
    key: str
    after: str | None = None


@dataclass
class Cost:
    """What asking once took, in milliseconds."""

    statements: int = 0
    store: float = 0.0
    whole: float = 0.0


async def overview() -> list[Figure]:
    """The page of a tenant with few delegations, and of one with most, where there are many, over that where there
    are few.
    """
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres.server(durable=False))
        few = await stack.enter_async_context(_gateway(server, FEW))
        many = await stack.enter_async_context(_gateway(server, MANY))
        places = {"all 1,000 there are": few[0], f"1,000 of {MANY:,}": many[0], **_of_many(many[1])}
        costs: dict[str, list[Cost]] = {name: [] for name in places}
        for counts in [False] * WARM_UP + [True] * ROUNDS:
            for name, place in places.items():
                cost = await _ask(place)
                if counts:
                    costs[name].append(cost)
        return _figures(costs)


def _of_many(place: Place) -> dict[str, Place]:
    middle = DELEGATIONS.cursor(delegation_id(MANY // 2))
    return {f"100,000 of {MANY:,}": place, "half-way in them": Place(place.http, place.key, middle)}


@asynccontextmanager
async def _gateway(server: postgres.Postgres, most: int) -> AsyncIterator[tuple[Place, Place]]:
    """A gateway on a filled database, for the tenant with few of its delegations and for the one with most of them."""
    with (
        server.database() as url,
        tempfile.TemporaryDirectory(prefix="crossgrant-bench-") as name,
        (Path(name) / "log").open("wb") as log,
    ):
        configure_logging("INFO", log)
        async with running(settings_for(Path(name), url), "http://gateway.test") as process:
            lending = await lend(process.gateway, 9)
            initech = await member(process.gateway, "initech", [])
            await process.gateway.store.write(fill, lending, initech.id, most, alone=most == FEW)
            transport = httpx2.ASGITransport(app=process.app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://gateway.test") as http:
                yield Place(http, lending.acme.key), Place(http, initech.key)


async def _ask(place: Place) -> Cost:
    variables = {"direction": "OUTGOING", "first": PAGE, "after": place.after}
    with _watching() as cost:
        began = time.perf_counter()
        answer = await place.http.post(
            "/graphql", json={"query": OVERVIEW, "variables": variables}, headers={"X-API-Key": place.key}
        )
        cost.whole = (time.perf_counter() - began) * 1000
    shown: dict[str, Any] = answer.json()
    assert "errors" not in shown, shown["errors"]
    nodes = shown["data"]["delegations"]["nodes"]
    assert len(nodes) == PAGE
    assert all(len(node["usage"]) == 4 and len(node["audit"]["nodes"]) == 3 for node in nodes)
    return cost


@contextmanager
def _watching() -> Iterator[Cost]:
    """Counts the statements of this process, and how long they take."""
    cost = Cost()

    def begin(
        _connection: object, _cursor: object, _statement: str, _given: object, of: Any, *_: object
    ) -> None:
        of.began = time.perf_counter()

    def end(
        _connection: object, _cursor: object, _statement: str, _given: object, of: Any, *_: object
    ) -> None:
        cost.statements += 1
        cost.store += (time.perf_counter() - of.began) * 1000

    event.listen(Engine, "before_cursor_execute", begin)
    event.listen(Engine, "after_cursor_execute", end)
    try:
        yield cost
    finally:
        event.remove(Engine, "before_cursor_execute", begin)
        event.remove(Engine, "after_cursor_execute", end)


def _figures(costs: dict[str, list[Cost]]) -> list[Figure]:
    wholes = {name: _quick([each.whole for each in of_one]) for name, of_one in costs.items()}
    stores = {name: _quick([each.store for each in of_one]) for name, of_one in costs.items()}
    statements = {each.statements for of_one in costs.values() for each in of_one}
    name = f"overview, {MANY:,} delegations over {FEW:,}"
    counted = f"{min(statements)} statements"
    return [_slowest(name, wholes, counted), _slowest(f"{name}, the store's part", stores, counted)]


def _quick(took: list[float]) -> float:
    """The first quartile: what else the machine does makes some of them slower, and nothing makes one faster."""
    return statistics.quantiles(took, n=4)[0]


def _slowest(name: str, took: dict[str, float], counted: str) -> Figure:
    least, *_ = took.values()
    detail = "; ".join(f"{place} {ms:.1f} ms" for place, ms in took.items())
    return Figure(name, max(took.values()) / least, 1.5, False, "x", f"{detail}; {counted}")
