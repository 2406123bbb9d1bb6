"""Deliveries per second of one node to one fast receiver: a ledger that grew by thousands at once, until all arrived.

`python -m tests.bench.webhooks` measures both stores. It runs the courier of a gateway in this process, and the receiver in
another.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import uvloop
from pydantic import SecretStr
from sqlalchemy import text

from app.api.context import Gateway
from app.delivery.webhooks.endpoints import EndpointChanges, create_endpoint
from app.egress.origins import Reach
from app.identity.callers import Caller, find_caller
from app.identity.tenants import create_tenant
from app.ledger.append import append, own
from app.main import running
from app.rules.entries import Event
from app.rules.tokens import TokenKind
from app.settings import Settings
from app.store.engine import Tx
from tests import postgres
from tests.bench.figures import Figure, plain
from tests.bench.lending import made

ROUNDS = 3
ENTRIES = 4_000  # of some 600 bytes in a round
REQUIRED = 500.0  # a second

_ALLOW = (ip_network("127.0.0.0/8"),)
_DELIVERED = text("SELECT count(*) FROM webhook_deliveries WHERE status = 'DELIVERED'")


async def webhooks() -> list[Figure]:
    """On each store."""
    sqlite = await measure(None)
    with postgres.server(durable=True) as server, server.database() as database:
        other = await measure(database)
    return [_figure("SQLite", sqlite), _figure("PostgreSQL", other)]


def _figure(store: str, rates: list[float]) -> Figure:
    detail = f"rounds {' '.join(f'{each:.0f}' for each in rates)}"
    return Figure(f"webhook deliveries, {store}", statistics.median(rates), REQUIRED, True, "/s", detail)


async def measure(database_url: str | None, rounds: int = ROUNDS, entries: int = ENTRIES) -> list[float]:
    """Deliveries a second in each round, after one that warms up."""
    async with plain("upstream") as receiver, _gateway(database_url) as (gateway, owner):
        asked = EndpointChanges(f"http://127.0.0.1:{receiver.port}/", ["agent.*"])
        reach = Reach(_ALLOW, require_https=False)
        made(await gateway.store.write(create_endpoint, owner, gateway.keys, reach, asked))
        rates = [await _round(gateway, owner, entries, n) for n in range(rounds + 1)]
    return rates[1:]


@asynccontextmanager
async def _gateway(database_url: str | None) -> AsyncIterator[tuple[Gateway, Caller]]:
    """A gateway in this process, with one tenant."""
    with tempfile.TemporaryDirectory(prefix="crossgrant-bench-") as folder:
        settings = Settings(
            data_dir=Path(folder),
            database_url=database_url,
            secret_key=SecretStr("a secret of the benchmark, long enough for all"),
            egress_allow=_ALLOW,
        )
        async with running(settings, "http://gateway.example") as process:
            gateway = process.gateway
            key = gateway.keys.mint(TokenKind.API_KEY)
            made(await gateway.store.write(create_tenant, "acme", "acme", "standard", key, gateway.plans))
            owner = await gateway.store.read(find_caller, key.hash)
            assert owner is not None
            yield gateway, owner


async def _round(gateway: Gateway, owner: Caller, entries: int, number: int) -> float:
    """So many entries in one transaction, until the last has been delivered."""
    await gateway.store.write(_grown, owner, entries)
    began = time.monotonic()
    while await gateway.store.read(_delivered) < (number + 1) * entries:  # noqa: ASYNC110  # announced by nobody
        await asyncio.sleep(0.05)
    return entries / (time.monotonic() - began)


def _grown(tx: Tx, owner: Caller, entries: int) -> None:
    now, details = tx.now(), {"name": "n" * 100}
    append(
        tx,
        (own(Event.AGENT_UPDATED, owner.tenant_id, owner.subject, now, **details) for _ in range(entries)),
    )


def _delivered(tx: Tx) -> int:
    return int(tx.execute(_DELIVERED).scalar_one())


async def main() -> None:
    """Prints them."""
    for each in await webhooks():
        sys.stdout.write(f"{each.name}: {each.measured:.0f}{each.unit} ({each.detail})\n")


if __name__ == "__main__":
    uvloop.run(main())
