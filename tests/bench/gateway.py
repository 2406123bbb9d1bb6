"""The gateway under measurement: the real one, with two tenants, a delegation and perhaps a long ledger.

`python -m tests.bench.gateway FOLDER UPSTREAM_PORT ENTRIES [DATABASE_URL]` serves until it is stopped; when it
listens, it prints one line of JSON. Its log, at the default level, goes to FOLDER/log.
"""

import asyncio
import sys
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import TypeVar

import orjson
import uvloop
from pydantic import SecretStr
from sqlalchemy import text

from app.api.context import Gateway
from app.delegations.acceptance import Accepted, OfferRef, accept
from app.delegations.offers import OfferDraft, offer
from app.identity.callers import Caller, find_caller
from app.identity.tenants import create_tenant
from app.inventory.actions import define_action
from app.inventory.agents import AgentDraft, register_agent
from app.inventory.upstreams import register_upstream
from app.main import running
from app.rules.errors import Refusal
from app.rules.ids import DAY, Instant, TenantId
from app.rules.terms import Constraints
from app.rules.tokens import TokenKind
from app.serve import listen, serve
from app.settings import Settings
from app.store.engine import Tx, wall_clock
from app.telemetry import configure_logging

T = TypeVar("T")

_CHUNK = 100_000  # entries in one transaction
#: Copies of a tenant's first entry, numbered on from its last.
_FILL = text(
    "WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last) "
    "INSERT INTO ledger (tenant_id, seq, id, pair_id, event, occurred_at, body, leaf_hash) "
    "SELECT tenant_id, n, printf('aud_00000000-0000-7000-8000-%012x', n), "
    "printf('par_00000000-0000-7000-8000-%012x', n), event, occurred_at, body, leaf_hash "
    "FROM ledger, numbers WHERE tenant_id = :tenant AND seq = 1"
)
_HEAD = text("UPDATE ledger_heads SET seq = :last WHERE tenant_id = :tenant")


def made(result: T | Refusal) -> T:
    """What a flow made; a refusal ends the run."""
    assert not isinstance(result, Refusal), result
    return result


async def lend(gateway: Gateway, upstream_port: int) -> dict[str, str]:
    """One tenant lends another what calls the upstream; the scoped token, the lender's API key and id."""
    store, keys = gateway.store, gateway.keys
    minted = {slug: keys.mint(TokenKind.API_KEY) for slug in ("acme", "globex")}
    tenants = [
        made(await store.write(create_tenant, slug, slug, "standard", key)) for slug, key in minted.items()
    ]
    acme, globex = [await store.read(find_caller, key.hash) for key in minted.values()]
    assert acme is not None
    assert globex is not None
    lent = made(await store.write(register_agent, acme, AgentDraft("lent", "", ["r:w"], None, [])))
    acting = made(await store.write(register_agent, globex, AgentDraft("acting", "", [], None, [])))
    await _expose(gateway, acme, upstream_port)
    terms = Constraints(Instant(wall_clock() + DAY), max_actions_per_hour=10**9)
    draft = OfferDraft(lent.id, tenants[1].id, ["r:w"], terms, "TOKEN", "LIVE", None, {})
    offered, token = keys.mint(TokenKind.OFFER), keys.mint(TokenKind.LIVE)
    made(await store.write(offer, acme, draft, offered))
    accepted = await store.write(
        accept,
        globex,
        OfferRef(offered.hash, None),
        acting.id,
        token,
        acknowledged=True,
        expected_hash=None,
        accept_key=None,
    )
    assert isinstance(accepted, Accepted), accepted
    return {"token": token.text, "key": minted["acme"].text, "tenant": tenants[0].id}


async def _expose(gateway: Gateway, caller: Caller, port: int) -> None:
    write, keys, allow = gateway.store.write, gateway.keys, gateway.settings.egress_allow
    url = f"http://127.0.0.1:{port}"
    upstream = made(
        await write(
            register_upstream, caller, keys, allow, name="api", kind="REST", base_url=url, credential=None
        )
    )
    for method, path in (("POST", "/v1/r/{id}"), ("GET", "/size/{bytes}")):
        made(
            await write(
                define_action,
                caller,
                upstream.id,
                scope="r:w",
                method=method,
                path=path,
                cost_units=1,
                response_mode="BUFFERED",
                idempotent=False,
            )
        )


def fill(tx: Tx, tenant: TenantId, first: int, last: int) -> None:
    """Entries of these numbers."""
    tx.execute(_FILL, {"tenant": tenant, "first": first, "last": last})
    tx.execute(_HEAD, {"tenant": tenant, "last": last})


def count(tx: Tx, tenant: TenantId) -> int:
    """How many entries a ledger has."""
    head = text("SELECT seq FROM ledger_heads WHERE tenant_id = :tenant")
    return int(tx.execute(head, {"tenant": tenant}).scalar_one())


async def main(folder: Path, upstream_port: int, entries: int, database: str | None) -> None:
    """Serves."""
    settings = Settings(
        data_dir=folder,
        database_url=database,
        secret_key=SecretStr("a secret of the benchmark, long enough for all"),
        egress_allow=(ip_network("127.0.0.0/8"),),
    )
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        async with running(settings, f"http://127.0.0.1:{port}") as process:
            lending = await lend(process.gateway, upstream_port)
            store, tenant = process.gateway.store, TenantId(lending["tenant"])
            for first in range(await store.read(count, tenant) + 1, entries + 1, _CHUNK):
                await store.write(fill, tenant, first, min(first + _CHUNK - 1, entries))
            sys.stdout.buffer.write(orjson.dumps({"port": port, **lending}) + b"\n")
            sys.stdout.flush()
            await serve(process, listening)


if __name__ == "__main__":
    _folder = Path(sys.argv[1])
    with (_folder / "log").open("wb") as _log, suppress(asyncio.CancelledError):
        configure_logging("INFO", _log)
        uvloop.run(main(_folder, int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if sys.argv[4:] else None))
